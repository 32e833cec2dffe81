// Reading packed blocks (core/layout.h) into vectors.

constexpr bool has_parts(Scheme scheme) {
  return scheme == Scheme::Super16 || scheme == Scheme::Super16A;
}
constexpr bool has_offset(Scheme scheme) {
  return scheme == Scheme::Offset || scheme == Scheme::Super16 || scheme == Scheme::Column;
}
// Bits of a value, as unsigned bytes, need the eighth bit.
constexpr bool is_wide(Format format) { return layout_of(format).bytes > 0; }

// The eight vectors of a block as unsigned bytes: vector j, lane c holds k = 4j .. 4j+3 of column
// c.
template <Format F>
[[gnu::always_inline]] inline void unpack_block(const uint8_t* block, Vb (&out)[8]) {
  static constexpr Layout L = layout_of(F);
  if constexpr (L.bytes > 0) unroll<8>([&](auto j) INLINE { out[j] = vbload(block + 64 * j); });
  if constexpr (L.nibbles > 0)
    unroll<4>([&](auto j) INLINE {
      const Vb word = vbload(block + 64 * j);
      out[j] = vband(word, 15);
      out[j + 4] = vband(vbright<4>(word), 15);
    });
  if constexpr (L.pairs > 0)
    unroll<8>([&](auto j) INLINE {
      const Vb word = vbload(block + L.nibbles + 64 * (j / 4));
      const Vb pair = vband(vbright<2 * (j % 4)>(word), 3);
      if constexpr (L.nibbles > 0)
        out[j] = vbor(out[j], vbleft<4>(pair));
      else
        out[j] = pair;
    });
  if constexpr (L.bits > 0) {
    const Vb word = vbload(block + L.nibbles + L.pairs);
    unroll<8>([&](auto j) INLINE {
      const Vb bit = vband(vbright<j>(word), 1);
      out[j] = vbor(out[j], vbleft<(L.nibbles > 0 ? 4 : 2)>(bit));
    });
  }
}

struct Scales {
  Vf d;  // value = d · q + m, or d · (q − offset) for schemes with an offset
  Vf m;
};

inline Vf low_nibbles(const uint8_t* p) {
  float values[16];
  for (int i = 0; i < 16; ++i) values[i] = static_cast<float>(p[i] & 15);
  return vload(values);
}

inline Vf high_nibbles(const uint8_t* p) {
  float values[16];
  for (int i = 0; i < 16; ++i) values[i] = static_cast<float>(p[i] >> 4);
  return vload(values);
}

inline Vf load_half(const uint8_t* p) { return vload_half(reinterpret_cast<const uint16_t*>(p)); }

// Scales of part `part` (for schemes with groups of 16) of a block.
template <Format F>
[[gnu::always_inline]] inline Scales load_scales(const uint8_t* scales, const uint8_t* supers,
                                                 int part) {
  static constexpr Scheme S = layout_of(F).scheme;
  if constexpr (S == Scheme::Affine) return {load_half(scales), load_half(scales + 32)};
  if constexpr (S == Scheme::Offset) return {load_half(scales), vzero()};
  if constexpr (S == Scheme::Super32)
    return {vmul(load_half(supers), vload_u8(scales)),
            vsub(vzero(), vmul(load_half(supers + 32), vload_u8(scales + 16)))};
  if constexpr (S == Scheme::Super16)
    return {vmul(load_half(supers), vload_i8(reinterpret_cast<const int8_t*>(scales + 16 * part))),
            vzero()};
  if constexpr (S == Scheme::Super16A)
    return {vmul(load_half(supers), low_nibbles(scales + 16 * part)),
            vsub(vzero(), vmul(load_half(supers + 32), high_nibbles(scales + 16 * part)))};
  return {vset(1.0f), vzero()};
}

// Scales of part `part` of group g in one half of a panel.
template <Format F>
[[gnu::always_inline]] inline Scales panel_scales(const uint8_t* panel, int g, int half, int part) {
  constexpr Layout L = layout_of(F);
  return load_scales<F>(panel + L.scale_at(g, half), panel + L.super_at(g, half), part);
}
