"""How Hypothesis looks for counterexamples, and the fixtures that all tests may use."""

from hypothesis import settings

from tests.browser import browser

__all__ = ["browser"]

# A busy computer is no counterexample, so no deadlines. `--hypothesis-profile ci` always tries the
# same examples, `--hypothesis-profile thorough` looks longer where a test sets no number itself.
settings.register_profile("quick", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True, print_blob=True)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("quick")
