// Weights of any format times f32 activations: tiles of rows x 32 output columns. Sums run over k
// in order, so that the result does not depend on how rows are tiled.

inline constexpr int kFloatBlock = 256;  // k of one panel kept in L1: 32 KiB as f32

template <Format F>
[[gnu::always_inline]] inline Vf load_lanes(const uint8_t* p) {
  if constexpr (F == Format::F32) return vload(reinterpret_cast<const float*>(p));
  if constexpr (F == Format::F16) return vload_half(reinterpret_cast<const uint16_t*>(p));
  return vload_bfloat(reinterpret_cast<const uint16_t*>(p));
}

// R rows x 32 columns over `count` k; adds to c unless `fresh`.
template <Format F, int R>
void float_tile(const uint8_t* w, const float* x, size_t stride, int count, float* c, bool fresh) {
  Vf sums[R][2];
  unroll<2 * R>([&](auto i) INLINE {
    sums[i / 2][i % 2] = fresh ? vzero() : vload(c + 32 * (i / 2) + 16 * (i % 2));
  });
  for (int k = 0; k < count; ++k, w += float_bytes(F)) {
    const Vf w0 = load_lanes<F>(w);
    const Vf w1 = load_lanes<F>(w + float_bytes(F) / 2);
    unroll<R>([&](auto r) INLINE {
      const Vf value = vset(x[r * stride + size_t(k)]);
      sums[r][0] = vfma(value, w0, sums[r][0]);
      sums[r][1] = vfma(value, w1, sums[r][1]);
    });
  }
  unroll<2 * R>([&](auto i)
                    INLINE { vstore(c + 32 * (i / 2) + 16 * (i % 2), sums[i / 2][i % 2]); });
}

using FloatTile = void (*)(const uint8_t*, const float*, size_t, int, float*, bool);

template <Format F, int... R>
constexpr std::array<FloatTile, kFloatRows> float_tiles(std::integer_sequence<int, R...>) {
  return {float_tile<F, R + 1>...};
}

template <Format F>
inline constexpr std::array<FloatTile, kFloatRows> kFloatTiles =
    float_tiles<F>(std::make_integer_sequence<int, kFloatRows>{});

// Values of a panel's groups as f32, [32 · groups][32].
template <Format F>
void expand_floats(const Weight& weight, int panel, int first_group, int groups, float* to) {
  static constexpr Layout L = layout_of(F);
  const uint8_t* base = weight.panel(panel);
  for (int g = 0; g < groups; ++g)
    for (int half = 0; half < 2; ++half) {
      Vb bits[8];
      unpack_block<F>(base + L.block_at(first_group + g, half), bits);
      for (int j = 0; j < 8; ++j) {
        Scales scales = panel_scales<F>(base, first_group + g, half, j / 4);
        if constexpr (L.scheme == Scheme::Column)
          scales.d = vload(reinterpret_cast<const float*>(base + weight.columns_at()) + 16 * half);
        if constexpr (L.offset != 0) scales.m = vmul(scales.d, vset(static_cast<float>(-L.offset)));
        unroll<4>([&](auto i) INLINE {
          const Vf value = vfma(scales.d, vfloat(vibyte<i>(bits[j])), scales.m);
          vstore(to + 32 * (32 * g + 4 * j + i) + 16 * half, value);
        });
      }
    }
}

using ExpandFloats = void (*)(const Weight&, int, int, int, float*);

inline ExpandFloats expand_floats_of(Format format) {
  switch (format) {
    case Format::Q4_0: return expand_floats<Format::Q4_0>;
    case Format::Q4_1: return expand_floats<Format::Q4_1>;
    case Format::Q5_0: return expand_floats<Format::Q5_0>;
    case Format::Q5_1: return expand_floats<Format::Q5_1>;
    case Format::Q8_0: return expand_floats<Format::Q8_0>;
    case Format::Q2_K: return expand_floats<Format::Q2_K>;
    case Format::Q3_K: return expand_floats<Format::Q3_K>;
    case Format::Q4_K: return expand_floats<Format::Q4_K>;
    case Format::Q5_K: return expand_floats<Format::Q5_K>;
    case Format::Q6_K: return expand_floats<Format::Q6_K>;
    default: return expand_floats<Format::I8>;
  }
}

inline const std::array<FloatTile, kFloatRows>& float_tiles_of(Format format) {
  switch (format) {
    case Format::F16: return kFloatTiles<Format::F16>;
    case Format::BF16: return kFloatTiles<Format::BF16>;
    default: return kFloatTiles<Format::F32>;
  }
}

// The same for the 16-bit float formats.
template <Format F>
void widen(const uint8_t* from, int count, float* to) {
  for (int i = 0; i < 2 * count; ++i) vstore(to + 16 * i, load_lanes<F>(from + 32 * i));
}

// `count` k of a panel as f32, from k `first` (whole groups for quantised formats) on.
inline void to_floats(const Weight& weight, int panel, int first, int count, float* to) {
  const uint8_t* from = weight.panel(panel) + size_t(first) * size_t(float_bytes(weight.format));
  if (weight.format == Format::F16) return widen<Format::F16>(from, count, to);
  if (weight.format == Format::BF16) return widen<Format::BF16>(from, count, to);
  expand_floats_of(weight.format)(weight, panel, first / kGroup, (count + kGroup - 1) / kGroup, to);
}
