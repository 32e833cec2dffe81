// Weights of any format times f32 activations: tiles of rows x 32 output columns. Sums run over k
// in order, so that the result does not depend on how rows are tiled.

inline constexpr int kFloatBlock = 256;  // k of one panel pair kept in L1: 32 KiB as f32

template <Format F>
[[gnu::always_inline]] inline Vf load_lanes(const uint8_t* p) {
  if constexpr (F == Format::F32) return vload(reinterpret_cast<const float*>(p));
  if constexpr (F == Format::F16) return vload_half(reinterpret_cast<const uint16_t*>(p));
  return vload_bfloat(reinterpret_cast<const uint16_t*>(p));
}

// Sixteen lanes of two panels, `step` bytes from one k to the next.
struct LanePair {
  const uint8_t* first;
  const uint8_t* second;
  size_t step;
};

// R rows x 32 columns over `count` k; adds to c unless `fresh`.
template <Format F, int R>
void float_tile(const LanePair& w, const float* x, size_t stride, int count, float* c, bool fresh) {
  Vf sums[R][2];
  unroll<2 * R>([&](auto i) {
    sums[i / 2][i % 2] = fresh ? vzero() : vload(c + 32 * (i / 2) + 16 * (i % 2));
  });
  const uint8_t* first = w.first;
  const uint8_t* second = w.second;
  for (int k = 0; k < count; ++k, first += w.step, second += w.step) {
    const Vf w0 = load_lanes<F>(first);
    const Vf w1 = load_lanes<F>(second);
    unroll<R>([&](auto r) {
      const Vf value = vset(x[r * stride + size_t(k)]);
      sums[r][0] = vfma(value, w0, sums[r][0]);
      sums[r][1] = vfma(value, w1, sums[r][1]);
    });
  }
  unroll<2 * R>([&](auto i) { vstore(c + 32 * (i / 2) + 16 * (i % 2), sums[i / 2][i % 2]); });
}

using FloatTile = void (*)(const LanePair&, const float*, size_t, int, float*, bool);

template <Format F, int... R>
constexpr std::array<FloatTile, kFloatRows> float_tiles(std::integer_sequence<int, R...>) {
  return {float_tile<F, R + 1>...};
}

template <Format F>
inline constexpr std::array<FloatTile, kFloatRows> kFloatTiles =
    float_tiles<F>(std::make_integer_sequence<int, kFloatRows>{});

// Values of one panel's groups as f32, [32 · groups][32] with this panel's 16 lanes at `to`.
template <Format F>
void expand_floats(const Weight& weight, int panel, int first_group, int groups, float* to) {
  static constexpr Layout L = layout_of(F);
  const PanelReader<F> reader(weight, panel);
  for (int g = 0; g < groups; ++g) {
    Vb bits[8];
    unpack_block<F>(reader.block(first_group + g), bits);
    unroll<8>([&](auto j) {
      Scales scales = reader.load(first_group + g, j / 4);
      if constexpr (L.scheme == Scheme::Column)
        scales.d = vload(reinterpret_cast<const float*>(reader.blocks + weight.columns_at()));
      if constexpr (L.offset != 0)
        scales.m = vmul(scales.d, vset(static_cast<float>(-L.offset)));
      unroll<4>([&](auto i) {
        const Vf value = vfma(scales.d, vfloat(vibyte<i>(bits[j])), scales.m);
        vstore(to + 32 * (32 * g + 4 * j + i), value);
      });
    });
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
inline void widen_lanes(const Weight& weight, int panel, int first, int count, float* to) {
  const uint8_t* from = weight.panel(panel) + size_t(first) * 32;
  for (int k = 0; k < count; ++k)
    vstore(to + 32 * k, weight.format == Format::F16 ? load_lanes<Format::F16>(from + 32 * k)
                                                     : load_lanes<Format::BF16>(from + 32 * k));
}
