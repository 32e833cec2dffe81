// Loops that are written out by the compiler, with the index a constant: accumulators held in
// arrays then stay in registers (GCC 12 leaves them on the stack when it unrolls late). Bodies are
// lambdas marked INLINE: left to itself GCC calls the long ones.

#define INLINE __attribute__((always_inline))

template <int... I, class F>
[[gnu::always_inline]] inline void unroll_over(std::integer_sequence<int, I...>, F&& body) {
  (body(std::integral_constant<int, I>{}), ...);
}

template <int N, class F>
[[gnu::always_inline]] inline void unroll(F&& body) {
  unroll_over(std::make_integer_sequence<int, N>{}, body);
}
