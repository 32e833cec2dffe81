// Vectors of sixteen lanes for processors without a tier of their own: four vectors of sixteen
// bytes in the vector extensions of GCC and Clang, which every 64-bit processor has registers for.
// Lanes are little-endian. Same names as simd_avx512.h.

using F4 = float __attribute__((vector_size(16)));
using I4 = int32_t __attribute__((vector_size(16)));
using U4 = uint32_t __attribute__((vector_size(16)));
using H8 = int16_t __attribute__((vector_size(16)));
using U8 = uint16_t __attribute__((vector_size(16)));

struct Vf {
  F4 v[4];
};
struct Vi {
  I4 v[4];
};
using Vb = Vi;

inline constexpr int kFewRows = 1;
inline constexpr int kDirectRows = 1;
inline constexpr int kTileRows = 1;
inline constexpr int kFloatRows = 1;
inline constexpr int kAttendRows = 1;
inline constexpr int kScoreChains = 1;

// A vector whose quarter i is quarter(i).
template <class V = Vf, class Quarter>
[[gnu::always_inline]] inline V quarters(Quarter quarter) {
  return {{quarter(0), quarter(1), quarter(2), quarter(3)}};
}
template <class To>
[[gnu::always_inline]] inline To load_as(const void* p) {
  To value;
  __builtin_memcpy(&value, p, sizeof value);
  return value;
}
inline F4 all_four(float x) { return F4{x, x, x, x}; }
inline I4 all_four(int32_t x) { return I4{x, x, x, x}; }
inline F4 to_float(I4 x) { return __builtin_convertvector(x, F4); }

inline Vf vset(float x) {
  return quarters([=](int) { return all_four(x); });
}
inline Vf vzero() { return vset(0.0f); }
inline Vf vload(const float* p) { return load_as<Vf>(p); }
inline void vstore(float* p, Vf x) { __builtin_memcpy(p, &x, sizeof x); }
inline Vf vload_n(const float* p, int n) {
  float lanes[16] = {};
  __builtin_memcpy(lanes, p, sizeof(float) * static_cast<size_t>(n));
  return vload(lanes);
}
inline void vstore_n(float* p, Vf x, int n) {
  __builtin_memcpy(p, &x, sizeof(float) * static_cast<size_t>(n));
}
inline Vf vadd(Vf x, Vf y) {
  return quarters([&](int i) { return x.v[i] + y.v[i]; });
}
inline Vf vsub(Vf x, Vf y) {
  return quarters([&](int i) { return x.v[i] - y.v[i]; });
}
inline Vf vmul(Vf x, Vf y) {
  return quarters([&](int i) { return x.v[i] * y.v[i]; });
}
inline Vf vdiv(Vf x, Vf y) {
  return quarters([&](int i) { return x.v[i] / y.v[i]; });
}
inline Vf vrecip(Vf x) { return vdiv(vset(1.0f), x); }
inline Vf vfma(Vf x, Vf y, Vf z) {
  return quarters([&](int i) { return x.v[i] * y.v[i] + z.v[i]; });
}
inline F4 larger(F4 x, F4 y) { return x > y ? x : y; }
inline Vf vmax(Vf x, Vf y) {
  return quarters([&](int i) { return larger(x.v[i], y.v[i]); });
}
inline Vf vmin(Vf x, Vf y) {
  return quarters([&](int i) { return x.v[i] < y.v[i] ? x.v[i] : y.v[i]; });
}
inline F4 magnitude_of(F4 x) { return (F4)((I4)x & 0x7fffffff); }
inline Vf vabs(Vf x) {
  return quarters([&](int i) { return magnitude_of(x.v[i]); });
}
// To the nearest whole number, ties to even: beside 1.5 · 2²³ a float has no fraction.
inline F4 round_quarter(F4 x) {
  const F4 large = all_four(12582912.0f);
  return magnitude_of(x) < all_four(4194304.0f) ? (x + large) - large : x;
}
inline Vf vround(Vf x) {
  return quarters([&](int i) { return round_quarter(x.v[i]); });
}
// Halves are added to halves, as the other tiers do.
inline float vsum(Vf x) {
  const F4 four = (x.v[0] + x.v[2]) + (x.v[1] + x.v[3]);
  return (four[0] + four[2]) + (four[1] + four[3]);
}
inline float vmost(Vf x) {
  const F4 four = larger(larger(x.v[0], x.v[2]), larger(x.v[1], x.v[3]));
  const float even = four[0] > four[2] ? four[0] : four[2];
  const float odd = four[1] > four[3] ? four[1] : four[3];
  return even > odd ? even : odd;
}
inline Vf vbelow(Vf x, Vf limit, Vf yes, Vf no) {
  return quarters([&](int i) { return x.v[i] < limit.v[i] ? yes.v[i] : no.v[i]; });
}
inline uint32_t lane_bits(Vi lanes) {
  uint32_t bits = 0;
  for (int i = 0; i < 16; ++i) bits |= uint32_t(lanes.v[i / 4][i % 4] != 0) << i;
  return bits;
}
inline uint32_t vreach(Vf x, Vf limit) {
  return lane_bits(quarters<Vi>([&](int i) { return I4(x.v[i] >= limit.v[i]); }));
}
inline uint32_t vnans(Vf x, Vf y) {
  return lane_bits(
      quarters<Vi>([&](int i) { return I4(x.v[i] != x.v[i]) | I4(y.v[i] != y.v[i]); }));
}
inline Vf vadd_within(Vf x, Vf y, Vf z, Vf limit) { return vadd(x, vbelow(limit, z, vzero(), y)); }
inline Vf vselect(uint32_t lanes, Vf x, Vf y) {
  for (int i = 0; i < 16; ++i)
    if (!(lanes >> i & 1)) x.v[i / 4][i % 4] = y.v[i / 4][i % 4];
  return x;
}
inline Vf vscale2(Vf x, Vf n) {
  return quarters(
      [&](int i) { return x.v[i] * (F4)((__builtin_convertvector(n.v[i], I4) + 127) << 23); });
}

// 16-bit floats whose bits are in 32-bit lanes. The multiplication moves the exponent to where f32
// has it, for subnormal numbers too; infinities and NaNs get theirs set.
inline F4 widen_half(I4 bits) {
  const I4 magnitude = (bits & 0x7fff) << 13;
  const I4 moved = (I4)((F4)magnitude * all_four(0x1p112f));
  const I4 infinite = (I4)(magnitude > all_four(0x0f7fffff)) & 0x7f800000;
  return (F4)(moved | infinite | ((bits & 0x8000) << 16));
}
template <class T>
[[gnu::always_inline]] inline I4 load_four(const T* p) {
  return I4{p[0], p[1], p[2], p[3]};
}
inline Vf vload_half(const uint16_t* p) {
  return quarters([=](int i) { return widen_half(load_four(p + 4 * i)); });
}
inline Vf vload_bfloat(const uint16_t* p) {
  return quarters([=](int i) { return (F4)((U4)load_four(p + 4 * i) << 16); });
}
inline void vstore_half(uint16_t* p, Vf x) {
  float lanes[16];
  vstore(lanes, x);
  for (int i = 0; i < 16; ++i) p[i] = float_to_half(lanes[i]);
}
inline Vf vload_i8(const int8_t* p) {
  return quarters([=](int i) { return to_float(load_four(p + 4 * i)); });
}
inline Vf vload_u8(const uint8_t* p) {
  return quarters([=](int i) { return to_float(load_four(p + 4 * i)); });
}

inline Vi viset(int32_t x) {
  return quarters<Vi>([=](int) { return all_four(x); });
}
inline Vi vizero() { return viset(0); }
inline Vi vileft16(Vi x) {
  return quarters<Vi>([&](int i) { return x.v[i] << 16; });
}
inline Vi viadd(Vi x, Vi y) {
  return quarters<Vi>([&](int i) { return x.v[i] + y.v[i]; });
}
inline Vf vfloat(Vi x) {
  return quarters([&](int i) { return to_float(x.v[i]); });
}
inline Vi vround_int(Vf x) {
  return quarters<Vi>([&](int i) { return __builtin_convertvector(round_quarter(x.v[i]), I4); });
}
inline int32_t visum(Vi x) {
  const I4 four = (x.v[0] + x.v[2]) + (x.v[1] + x.v[3]);
  return (four[0] + four[2]) + (four[1] + four[3]);
}
inline void vstore_bytes(int8_t* p, Vi x) {
  int32_t lanes[16];
  __builtin_memcpy(lanes, &x, sizeof x);
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(lanes[i]);
}
inline I4 low_half(I4 x) { return (x << 16) >> 16; }
inline I4 high_half(I4 x) { return x >> 16; }
inline Vi vipairs(Vi x, Vi y) {
  return quarters<Vi>([&](int i) {
    return low_half(x.v[i]) * low_half(y.v[i]) + high_half(x.v[i]) * high_half(y.v[i]);
  });
}
template <int I>
inline Vi vibyte(Vb x) {
  return quarters<Vi>([&](int i) { return (x.v[i] >> (8 * I)) & 255; });
}

inline Vb vbload(const uint8_t* p) { return load_as<Vb>(p); }
inline void vbstore(uint8_t* p, Vb x) { __builtin_memcpy(p, &x, sizeof x); }
inline Vb vband(Vb x, uint8_t mask) {
  const auto word = static_cast<int32_t>(0x01010101u * mask);
  return quarters<Vb>([&](int i) { return x.v[i] & word; });
}
inline Vb vbor(Vb x, Vb y) {
  return quarters<Vb>([&](int i) { return x.v[i] | y.v[i]; });
}
template <int N>
inline Vb vbright(Vb x) {
  return quarters<Vb>([&](int i) { return (I4)((U8)x.v[i] >> N); });
}
template <int N>
inline Vb vbleft(Vb x) {
  return quarters<Vb>([&](int i) { return (I4)((U8)x.v[i] << N); });
}
inline Vb vbfour(const int8_t* p) { return viset(load_as<int32_t>(p)); }

// A product of an unsigned and a signed byte fits 16 bits; sums of two need not.
inline I4 dot_quarter(I4 sum, I4 weights, I4 activations) {
  const I4 even = (I4)((H8)((U8)weights & 255) * (((H8)activations << 8) >> 8));
  const I4 odd = (I4)((H8)((U8)weights >> 8) * ((H8)activations >> 8));
  return sum + ((low_half(even) + high_half(even)) + (low_half(odd) + high_half(odd)));
}
template <bool Wide>
inline Vi vdot(Vi sum, Vb weights, Vb activations) {
  return quarters<Vi>([&](int i) { return dot_quarter(sum.v[i], weights.v[i], activations.v[i]); });
}
template <bool Wide>
inline Vi vdot_four(Vi sum, Vb weights, const int8_t* activations) {
  return vdot<Wide>(sum, weights, vbfour(activations));
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
