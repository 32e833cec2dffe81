// Vectors of sixteen lanes on AVX-512 with VNNI. Included inside the namespace of its translation
// unit; every instruction-set tier offers the same names.
//
//   Vf: 16 x f32    Vi: 16 x i32    Vb: 64 bytes

using Vf = __m512;
using Vi = __m512i;
using Vb = __m512i;

inline constexpr int kFewRows = 8;      // rows of a tile that unpacks quantised blocks in registers
inline constexpr int kDirectRows = 64;  // rows up to which tiles do so; more share what is unpacked
inline constexpr int kTileRows = 6;     // rows x 32 columns of the integer tile: 12 + 12 registers
inline constexpr int kFloatRows = 12;   // rows x 32 columns of the float tile: 24 registers
inline constexpr int kAttendRows = 6;   // query rows of an attention tile: 6 x 64 columns
inline constexpr int kScoreChains = 2;

inline Vf vzero() { return _mm512_setzero_ps(); }
inline Vf vset(float x) { return _mm512_set1_ps(x); }
inline Vf vload(const float* p) { return _mm512_loadu_ps(p); }
inline void vstore(float* p, Vf v) { _mm512_storeu_ps(p, v); }
inline __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
inline Vf vload_n(const float* p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
inline void vstore_n(float* p, Vf v, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
inline Vf vadd(Vf a, Vf b) { return _mm512_add_ps(a, b); }
inline Vf vsub(Vf a, Vf b) { return _mm512_sub_ps(a, b); }
inline Vf vmul(Vf a, Vf b) { return _mm512_mul_ps(a, b); }
inline Vf vdiv(Vf a, Vf b) { return _mm512_div_ps(a, b); }
// 1 / x to within two units in the last place: an estimate and one Newton step, a third of a
// division's time.
inline Vf vrecip(Vf x) {
  const Vf estimate = _mm512_rcp14_ps(x);
  const Vf error = _mm512_fnmadd_ps(x, estimate, _mm512_set1_ps(1.0f));
  return _mm512_fmadd_ps(estimate, error, estimate);
}
inline Vf vfma(Vf a, Vf b, Vf c) { return _mm512_fmadd_ps(a, b, c); }
inline Vf vmax(Vf a, Vf b) { return _mm512_max_ps(a, b); }
inline Vf vmin(Vf a, Vf b) { return _mm512_min_ps(a, b); }
inline Vf vabs(Vf a) { return _mm512_abs_ps(a); }
inline Vf vround(Vf a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline float vsum(Vf a) { return _mm512_reduce_add_ps(a); }
inline float vmost(Vf a) { return _mm512_reduce_max_ps(a); }
// a where a lane of x is below the limit, b elsewhere.
inline Vf vbelow(Vf x, Vf limit, Vf a, Vf b) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), b, a);
}
// The lanes where x is at least the limit, as bits.
inline uint32_t vreach(Vf x, Vf limit) { return _mm512_cmp_ps_mask(x, limit, _CMP_GE_OQ); }
// Not 0 if a lane of either is not a number.
inline uint32_t vnans(Vf a, Vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
// a + b in the lanes where x is not above the limit, a elsewhere.
inline Vf vadd_within(Vf a, Vf b, Vf x, Vf limit) {
  return _mm512_mask_add_ps(a, _mm512_cmp_ps_mask(x, limit, _CMP_LE_OQ), a, b);
}
// a in the lanes whose bit is set, b elsewhere.
inline Vf vselect(uint32_t lanes, Vf a, Vf b) {
  return _mm512_mask_blend_ps(static_cast<__mmask16>(lanes), b, a);
}
// a · 2^n for whole n within the exponent's range.
inline Vf vscale2(Vf a, Vf n) { return _mm512_scalef_ps(a, n); }

inline Vf vload_half(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vf vload_bfloat(const uint16_t* p) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
inline void vstore_half(uint16_t* p, Vf v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline Vf vload_i8(const int8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline Vf vload_u8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

// acc + per lane the sum of four products, weights unsigned (all eight bits if Wide), activations
// signed.
template <bool Wide>
inline Vi vdot(Vi acc, Vb weights, Vb activations) {
  return _mm512_dpbusd_epi32(acc, weights, activations);
}
// The same with one group of four activations for all lanes, read with the product itself: GCC
// loads what several products share once, and then has no register left to keep it in.
template <bool Wide>
[[gnu::always_inline]] inline Vi vdot_four(Vi acc, Vb weights, const int8_t* activations) {
  asm("vpdpbusd %2%{1to16%}, %1, %0"
      : "+v"(acc)
      : "v"(weights), "m"(*reinterpret_cast<const int8_t (*)[4]>(activations)));
  return acc;
}
inline Vi viadd(Vi a, Vi b) { return _mm512_add_epi32(a, b); }
inline Vi vileft16(Vi a) { return _mm512_slli_epi32(a, 16); }
// Byte I of every lane as a whole number.
template <int I>
inline Vi vibyte(Vb a) {
  return _mm512_and_si512(_mm512_srli_epi32(a, 8 * I), _mm512_set1_epi32(255));
}
inline Vi vizero() { return _mm512_setzero_si512(); }
inline Vi viset(int32_t x) { return _mm512_set1_epi32(x); }
inline Vf vfloat(Vi a) { return _mm512_cvtepi32_ps(a); }
inline Vi vround_int(Vf a) { return _mm512_cvtps_epi32(a); }
inline int32_t visum(Vi a) { return _mm512_reduce_add_epi32(a); }
inline void vstore_bytes(int8_t* p, Vi a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
}
// Per lane: sum of the products of the lane's two int16 (a pair of half sums with its weights).
inline Vi vipairs(Vi a, Vi b) { return _mm512_madd_epi16(a, b); }

inline Vb vbload(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline void vbstore(uint8_t* p, Vb v) { _mm512_storeu_si512(p, v); }
inline Vb vband(Vb a, uint8_t mask) {
  return _mm512_and_si512(a, _mm512_set1_epi8(static_cast<char>(mask)));
}
inline Vb vbor(Vb a, Vb b) { return _mm512_or_si512(a, b); }
// Shifts 16-bit lanes; callers mask what crosses a byte.
template <int N>
inline Vb vbright(Vb a) {
  return _mm512_srli_epi16(a, N);
}
template <int N>
inline Vb vbleft(Vb a) {
  return _mm512_slli_epi16(a, N);
}
// Four activation bytes in every lane.
inline Vb vbfour(const int8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm512_set1_epi32(word);
}

// Forced inline: GCC takes a function that only prefetches for one without effect, and drops it.
[[gnu::always_inline]] inline void vprefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
// Into the second-level cache.
[[gnu::always_inline]] inline void vprefetch_near(const void* p) { __builtin_prefetch(p, 0, 2); }
// For what is read once.
[[gnu::always_inline]] inline void vstream(const void* p) { __builtin_prefetch(p, 0, 0); }

// The 16 x 16 floats at `from` with rows and columns exchanged.
inline void transpose_16(const float* from, size_t stride, float* to, size_t to_stride) {
  __m512 a[16];
  __m512 b[16];
  for (size_t i = 0; i < 16; ++i) a[i] = _mm512_loadu_ps(from + i * stride);
  for (size_t i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  const auto low_pairs = [](__m512 x, __m512 y) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
  };
  const auto high_pairs = [](__m512 x, __m512 y) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
  };
  for (size_t i = 0; i < 16; i += 4) {  // a[i + c]: column c of each quarter of four rows
    a[i] = low_pairs(b[i], b[i + 2]);
    a[i + 1] = high_pairs(b[i], b[i + 2]);
    a[i + 2] = low_pairs(b[i + 1], b[i + 3]);
    a[i + 3] = high_pairs(b[i + 1], b[i + 3]);
  }
  for (size_t c = 0; c < 4; ++c) {  // quarters q of columns 4q + c, rows in order
    const __m512 even_low = _mm512_shuffle_f32x4(a[c], a[c + 4], 0x88);
    const __m512 odd_low = _mm512_shuffle_f32x4(a[c], a[c + 4], 0xdd);
    const __m512 even_high = _mm512_shuffle_f32x4(a[c + 8], a[c + 12], 0x88);
    const __m512 odd_high = _mm512_shuffle_f32x4(a[c + 8], a[c + 12], 0xdd);
    _mm512_storeu_ps(to + c * to_stride, _mm512_shuffle_f32x4(even_low, even_high, 0x88));
    _mm512_storeu_ps(to + (c + 4) * to_stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0x88));
    _mm512_storeu_ps(to + (c + 8) * to_stride, _mm512_shuffle_f32x4(even_low, even_high, 0xdd));
    _mm512_storeu_ps(to + (c + 12) * to_stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd));
  }
}
