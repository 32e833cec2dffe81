// Vectors of sixteen lanes on AVX2 with FMA and F16C, as pairs of registers. Same names as
// simd_avx512.h.

struct Vf {
  __m256 a, b;
};
struct Vi {
  __m256i a, b;
};
using Vb = Vi;

inline constexpr int kFewRows = 2;
inline constexpr int kDirectRows = 2;
inline constexpr int kTileRows = 1;
inline constexpr int kFloatRows = 2;
inline constexpr int kAttendRows = 2;
inline constexpr int kScoreChains = 1;

inline Vf vzero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vf vset(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Vf vload(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void vstore(float* p, Vf v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
inline Vf vload_n(const float* p, int n) {
  float lanes[16] = {};
  __builtin_memcpy(lanes, p, sizeof(float) * static_cast<size_t>(n));
  return vload(lanes);
}
inline void vstore_n(float* p, Vf v, int n) {
  float lanes[16];
  vstore(lanes, v);
  __builtin_memcpy(p, lanes, sizeof(float) * static_cast<size_t>(n));
}
inline Vf vadd(Vf x, Vf y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Vf vsub(Vf x, Vf y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Vf vmul(Vf x, Vf y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Vf vdiv(Vf x, Vf y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline Vf vrecip(Vf x) { return vdiv(vset(1.0f), x); }
inline Vf vfma(Vf x, Vf y, Vf z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline Vf vmax(Vf x, Vf y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Vf vmin(Vf x, Vf y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline Vf vabs(Vf x) {
  const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return {_mm256_and_ps(x.a, mask), _mm256_and_ps(x.b, mask)};
}
inline Vf vround(Vf x) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.a, mode), _mm256_round_ps(x.b, mode)};
}
inline float vsum(Vf x) {
  const __m256 eight = _mm256_add_ps(x.a, x.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float vmost(Vf x) {
  const __m256 eight = _mm256_max_ps(x.a, x.b);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline Vf vbelow(Vf x, Vf limit, Vf yes, Vf no) {
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, limit.a, _CMP_LT_OQ)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, limit.b, _CMP_LT_OQ))};
}
inline uint32_t lane_bits(__m256 a, __m256 b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(a) | _mm256_movemask_ps(b) << 8);
}
inline uint32_t vreach(Vf x, Vf limit) {
  return lane_bits(_mm256_cmp_ps(x.a, limit.a, _CMP_GE_OQ),
                   _mm256_cmp_ps(x.b, limit.b, _CMP_GE_OQ));
}
inline uint32_t vnans(Vf x, Vf y) {
  return lane_bits(_mm256_cmp_ps(x.a, y.a, _CMP_UNORD_Q), _mm256_cmp_ps(x.b, y.b, _CMP_UNORD_Q));
}
inline Vf vadd_within(Vf x, Vf y, Vf z, Vf limit) { return vadd(x, vbelow(limit, z, vzero(), y)); }
inline __m256 select_eight(uint32_t lanes, __m256 yes, __m256 no) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int32_t>(lanes)), bits);
  return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, bits)));
}
inline Vf vselect(uint32_t lanes, Vf x, Vf y) {
  return {select_eight(lanes, x.a, y.a), select_eight(lanes >> 8, x.b, y.b)};
}
inline __m256 power_of_two(__m256 n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
inline Vf vscale2(Vf x, Vf n) { return vmul(x, {power_of_two(n.a), power_of_two(n.b)}); }

inline __m128i load_128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline Vf vload_half(const uint16_t* p) {
  return {_mm256_cvtph_ps(load_128(p)), _mm256_cvtph_ps(load_128(p + 8))};
}
inline Vf vload_bfloat(const uint16_t* p) {
  const auto widen = [](__m128i halves) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  };
  return {widen(load_128(p)), widen(load_128(p + 8))};
}
inline void vstore_half(uint16_t* p, Vf v) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v.a, mode));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(v.b, mode));
}
inline Vf vload_i8(const int8_t* p) {
  const __m128i bytes = load_128(p);
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
inline Vf vload_u8(const uint8_t* p) {
  const __m128i bytes = load_128(p);
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
}

inline Vi vizero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline Vi viset(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Vi vileft16(Vi x) { return {_mm256_slli_epi32(x.a, 16), _mm256_slli_epi32(x.b, 16)}; }
inline Vi viadd(Vi x, Vi y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline Vf vfloat(Vi x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline Vi vround_int(Vf x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline void vistore(int32_t* p, Vi x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), x.b);
}
inline int32_t visum(Vi x) {
  int32_t lanes[16];
  vistore(lanes, x);
  int32_t sum = 0;
  for (int32_t lane : lanes) sum += lane;
  return sum;
}
inline void vstore_bytes(int8_t* p, Vi x) {
  int32_t lanes[16];
  vistore(lanes, x);
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(lanes[i]);
}
inline Vi vipairs(Vi x, Vi y) { return {_mm256_madd_epi16(x.a, y.a), _mm256_madd_epi16(x.b, y.b)}; }
template <int I>
inline Vi vibyte(Vb x) {
  const __m256i mask = _mm256_set1_epi32(255);
  return {_mm256_and_si256(_mm256_srli_epi32(x.a, 8 * I), mask),
          _mm256_and_si256(_mm256_srli_epi32(x.b, 8 * I), mask)};
}

inline Vb vbload(const uint8_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))};
}
inline void vbstore(uint8_t* p, Vb v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v.a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 32), v.b);
}
inline Vb vband(Vb x, uint8_t mask) {
  const __m256i all = _mm256_set1_epi8(static_cast<char>(mask));
  return {_mm256_and_si256(x.a, all), _mm256_and_si256(x.b, all)};
}
inline Vb vbor(Vb x, Vb y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
template <int N>
inline Vb vbright(Vb x) {
  return {_mm256_srli_epi16(x.a, N), _mm256_srli_epi16(x.b, N)};
}
template <int N>
inline Vb vbleft(Vb x) {
  return {_mm256_slli_epi16(x.a, N), _mm256_slli_epi16(x.b, N)};
}
inline Vb vbfour(const int8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return viset(word);
}
inline __m256i dot_quads(__m256i acc, __m256i weights, __m256i activations) {
  const __m256i pairs = _mm256_maddubs_epi16(weights, activations);
  return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
// Sums of two products are 16-bit and saturate for weights of eight bits; those go in two parts.
template <bool Wide>
inline Vi vdot(Vi acc, Vb weights, Vb activations) {
  if constexpr (Wide) {
    const Vb low = vband(weights, 0x7f);
    const Vb high = vband(weights, 0x80);
    acc = {dot_quads(acc.a, high.a, activations.a), dot_quads(acc.b, high.b, activations.b)};
    return {dot_quads(acc.a, low.a, activations.a), dot_quads(acc.b, low.b, activations.b)};
  }
  return {dot_quads(acc.a, weights.a, activations.a), dot_quads(acc.b, weights.b, activations.b)};
}
template <bool Wide>
inline Vi vdot_four(Vi acc, Vb weights, const int8_t* activations) {
  return vdot<Wide>(acc, weights, vbfour(activations));
}

// Forced inline: GCC takes a function that only prefetches for one without effect, and drops it.
[[gnu::always_inline]] inline void vprefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
// Into the second-level cache.
[[gnu::always_inline]] inline void vprefetch_near(const void* p) { __builtin_prefetch(p, 0, 2); }
// For what is read once.
[[gnu::always_inline]] inline void vstream(const void* p) { __builtin_prefetch(p, 0, 0); }

// The 16 x 16 floats at `from` with rows and columns exchanged.
inline void transpose_16(const float* from, size_t stride, float* to, size_t to_stride) {
  for (size_t row = 0; row < 16; ++row)
    for (size_t column = 0; column < 16; ++column)
      to[column * to_stride + row] = from[row * stride + column];
}
