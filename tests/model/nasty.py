"""Texts that tokenizers get wrong, and a little corpus to train small ones on."""

from __future__ import annotations

LANGUAGES = [
    "The quick brown fox doesn't jump; it's over the lazy dog's fence, they'll say.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Đặng Thị Hồng ăn phở lúc 12:30, rồi uống cà phê sữa đá.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "נקסט: דג סקרן שט בים מאוכזב ולפתע מצא חברה.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر.",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण।",
    "আমি বাংলায় গান গাই, আমি বাংলার গান গাই।",
    "இந்தியாவின் தலைநகரம் எது?",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "ကမ္ဘာ့ကုလသမဂ္ဂ",
    "អ្នកណាមានរឿង",
    "ჩვენ ვსწავლობთ ქართულს.",
    "Բարեւ աշխարհ։",
    "ሰላም ለዓለም",
    "天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。",
    "いろはにほへと ちりぬるを。カタカナもある。",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "ᚠᛇᚻ᛫ᛒᛦᚦ᛫ᚠᚱᚩᚠᚢᚱ 𐌰𐌱𐌲 𒀀𒁀 𓀀𓁐",
]
CODE = [
    "def f(x: int) -> int:\n\treturn x ** 2  # carré\n\n\nif __name__ == 'x':\n    print(f(12345))",
    '#include <stdio.h>\r\nint main(void) {\r\n    printf("%08x\\n", 0xDEADBEEF);\r\n}\r\n',
    "SELECT * FROM t WHERE a>=1 AND b<>'x''y'; -- comment",
    '{"a": [1, 2.5e-10, null], "b": {"c": "\\u00e9"}}',
    "<p class='x'>a&nbsp;b</p> $E=mc^2$ `code` ~~~ ||| &&",
]
NUMBERS = ["0 1 12 123 1234 12345 1234567890", "3.14159 1,000,000 ½ ² Ⅻ ٣٤٥ १२३ 一二三 ①②"]
EMOJI = [
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇨🇭🇯🇵 ❤️‍🔥 1️⃣ 🧑🏿‍🚀",
    "e\u0301 é n\u0303 Å \u212b \ufb01 \u1e9b\u0323 각 \u1100\u1161\u11a8",  # NFC changes these
]
BLANKS = [
    "",
    " ",
    "  ",
    "   a",
    "a   ",
    "a  b   c    d",
    "\n",
    "\n\n\n",
    " \n \n",
    "a\r\n\r\nb\rc\n",
    "\t\ttabs \t and   spaces\n   \n",
    "\u00a0nbsp\u2003em\u3000ideographic\u200bzero\u2028line\u2029paragraph\ufeffbom\u0085next",
    " " * 300,
]
CONTROLS = [
    "\x00",
    "a\x00b\x01\x02\x1b[31mred\x7f\x80\x9f",
    "\ufffd\ufffe\uffff\U0010ffff\ue000",
    "a\u202eb\u200f\u2066c\u0301\u0301\u0301\u0301d" + "\u0336" * 40,
]
SURROGATES = ["\ud800", "a\udfffb", "\ud83d\ude00", "\ude00\ud83d x\ud83d"]
SPECIAL = [
    "<|im_start|>user\nhi<|im_end|>",
    "<s>[INST] </s><unk>",
    "[CLS] a [MASK] b [SEP]",
    "<0x0A>",
]
LONG = ["a" * 100_000, "ab1é" * 25_000, "好" * 20_000]

CORPUS = [*LANGUAGES, *CODE, *NUMBERS, *EMOJI, *BLANKS, *CONTROLS]
"""Texts without lone surrogates and special tokens: other implementations take them too."""
EVERYTHING = [*CORPUS, *SURROGATES, *SPECIAL, *LONG]

TRAINING = [*LANGUAGES, *CODE, *NUMBERS, *EMOJI] * 3


def unicode(text: str) -> str:
    """What a text with surrogates is taken for."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
