// Vectors of sixteen lanes in plain C++, for processors without a tier of their own; compilers turn
// the loops into what vectors they have. Same names as simd_avx512.h.

struct Vf {
  float v[16];
};
struct Vi {
  int32_t v[16];
};
struct Vb {
  uint8_t v[64];
};

inline constexpr int kTileRows = 1;
inline constexpr int kFloatRows = 2;
inline constexpr int kAttendRows = 1;

// A vector whose lane i is lane(i).
template <class V = Vf, class Lane>
[[gnu::always_inline]] inline V lanes(Lane lane) {
  V out;
  for (int i = 0; i < 16; ++i) out.v[i] = lane(i);
  return out;
}

inline Vf vzero() { return lanes([](int) { return 0.0f; }); }
inline Vf vset(float x) { return lanes([=](int) { return x; }); }
inline Vf vload(const float* p) { return lanes([=](int i) { return p[i]; }); }
inline void vstore(float* p, Vf v) { __builtin_memcpy(p, v.v, sizeof v.v); }
inline Vf vload_n(const float* p, int n) {
  return lanes([=](int i) { return i < n ? p[i] : 0.0f; });
}
inline void vstore_n(float* p, Vf v, int n) {
  __builtin_memcpy(p, v.v, sizeof(float) * static_cast<size_t>(n));
}
inline Vf vadd(Vf a, Vf b) { return lanes([&](int i) { return a.v[i] + b.v[i]; }); }
inline Vf vsub(Vf a, Vf b) { return lanes([&](int i) { return a.v[i] - b.v[i]; }); }
inline Vf vmul(Vf a, Vf b) { return lanes([&](int i) { return a.v[i] * b.v[i]; }); }
inline Vf vdiv(Vf a, Vf b) { return lanes([&](int i) { return a.v[i] / b.v[i]; }); }
inline Vf vfma(Vf a, Vf b, Vf c) { return lanes([&](int i) { return a.v[i] * b.v[i] + c.v[i]; }); }
inline Vf vmax(Vf a, Vf b) { return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
inline Vf vmin(Vf a, Vf b) { return lanes([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
inline Vf vabs(Vf a) { return lanes([&](int i) { return std::fabs(a.v[i]); }); }
inline Vf vround(Vf a) { return lanes([&](int i) { return std::nearbyint(a.v[i]); }); }
// Halves are added to halves, as the other tiers do.
inline float vsum(Vf a) {
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) a.v[i] += a.v[i + width];
  return a.v[0];
}
inline float vmost(Vf a) {
  float most = a.v[0];
  for (float lane : a.v) most = lane > most ? lane : most;
  return most;
}
inline Vf vbelow(Vf x, Vf limit, Vf yes, Vf no) {
  return lanes([&](int i) { return x.v[i] < limit.v[i] ? yes.v[i] : no.v[i]; });
}
inline Vf vscale2(Vf a, Vf n) {
  return lanes([&](int i) {
    const int32_t power = (static_cast<int32_t>(n.v[i]) + 127) << 23;
    return a.v[i] * std::bit_cast<float>(power);
  });
}

inline Vf vload_half(const uint16_t* p) {
  return lanes([=](int i) { return half_to_float(p[i]); });
}
inline Vf vload_bfloat(const uint16_t* p) {
  return lanes([=](int i) { return bfloat_to_float(p[i]); });
}
inline void vstore_half(uint16_t* p, Vf v) {
  for (int i = 0; i < 16; ++i) p[i] = float_to_half(v.v[i]);
}
inline Vf vload_i8(const int8_t* p) {
  return lanes([=](int i) { return static_cast<float>(p[i]); });
}
inline Vf vload_u8(const uint8_t* p) {
  return lanes([=](int i) { return static_cast<float>(p[i]); });
}

inline Vi vizero() { return lanes<Vi>([](int) { return 0; }); }
inline Vi viset(int32_t x) { return lanes<Vi>([=](int) { return x; }); }
inline Vi viadd(Vi a, Vi b) { return lanes<Vi>([&](int i) { return a.v[i] + b.v[i]; }); }
inline Vf vfloat(Vi a) { return lanes([&](int i) { return static_cast<float>(a.v[i]); }); }
inline Vi vround_int(Vf a) {
  return lanes<Vi>([&](int i) { return static_cast<int32_t>(std::nearbyint(a.v[i])); });
}
inline int32_t visum(Vi a) {
  int32_t sum = 0;
  for (int32_t lane : a.v) sum += lane;
  return sum;
}
inline void vstore_bytes(int8_t* p, Vi a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(a.v[i]);
}
inline int32_t low_half(int32_t x) { return static_cast<int16_t>(x); }
inline int32_t high_half(int32_t x) { return x >> 16; }
inline Vi vipairs(Vi a, Vi b) {
  return lanes<Vi>([&](int i) {
    return low_half(a.v[i]) * low_half(b.v[i]) + high_half(a.v[i]) * high_half(b.v[i]);
  });
}
template <int I>
inline Vi vibyte(Vb a) {
  return lanes<Vi>([&](int i) { return static_cast<int32_t>(a.v[4 * i + I]); });
}

// A vector of bytes whose byte i is byte(i).
template <class Byte>
[[gnu::always_inline]] inline Vb bytes(Byte byte) {
  Vb out;
  for (int i = 0; i < 64; ++i) out.v[i] = static_cast<uint8_t>(byte(i));
  return out;
}

inline Vb vbload(const uint8_t* p) { return bytes([=](int i) { return p[i]; }); }
inline void vbstore(uint8_t* p, Vb v) { __builtin_memcpy(p, v.v, sizeof v.v); }
inline Vb vband(Vb a, uint8_t mask) { return bytes([&](int i) { return a.v[i] & mask; }); }
inline Vb vbor(Vb a, Vb b) { return bytes([&](int i) { return a.v[i] | b.v[i]; }); }
template <int N>
inline Vb vbright(Vb a) {
  return bytes([&](int i) { return a.v[i] >> N; });
}
template <int N>
inline Vb vbleft(Vb a) {
  return bytes([&](int i) { return a.v[i] << N; });
}
inline Vb vbfour(const int8_t* p) {
  return bytes([=](int i) { return static_cast<uint8_t>(p[i % 4]); });
}
template <bool Wide>
inline Vi vdot(Vi acc, Vb weights, Vb activations) {
  return lanes<Vi>([&](int i) {
    int32_t sum = acc.v[i];
    for (int k = 4 * i; k < 4 * i + 4; ++k)
      sum += weights.v[k] * static_cast<int8_t>(activations.v[k]);
    return sum;
  });
}
