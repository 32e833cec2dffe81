// Quantised weights times int8 activations: tiles of rows x 32 output columns.
//
// For every group of 32 inputs the integer dot product is exact; its f32 value is then added to the
// tile's sum in the order of the groups. Every path below does the same operations per element in
// the same order, so that the result does not depend on how rows are tiled.

inline constexpr int kBlockGroups = 24;      // groups of one unpacked panel: 24 KiB in L1
inline constexpr int kBlockRows = 512;       // rows that share an unpacked panel
inline constexpr int kPrefetchBytes = 4096;  // measured: 2 KiB is too near, 8 KiB no better

// 32 columns of `groups` groups, unpacked.
struct Expanded {
  uint8_t* bytes;  // [group][8][2 halves][64]
  float* d;        // [group][parts][32]
  float* m;
};

// Weights that come next, asked for while a tile computes: a few lines with every group.
struct Ahead {
  const uint8_t* at = nullptr;
  const uint8_t* stop = nullptr;
  int lines = 0;  // for a group

  [[gnu::always_inline]] void step() {
    for (int line = 0; line < lines && at < stop; ++line, at += 64) vprefetch_near(at);
  }
};

inline int32_t load_pair(const int16_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return word;
}

// Weights of the two half sums of a group that cancel the offset of unsigned weight bits.
template <Format F>
inline Vi offset_factors(int part) {
  static constexpr Layout L = layout_of(F);
  static constexpr uint32_t factor = static_cast<uint16_t>(-L.offset);
  if constexpr (has_parts(L.scheme))
    return viset(static_cast<int32_t>(part == 0 ? factor : factor << 16));
  return viset(static_cast<int32_t>(factor | factor << 16));
}

// Adds a group's (or part's) integer sum to the f32 sum.
template <Scheme S>
[[gnu::always_inline]] inline Vf fold(Vf sum, Vi integer, const Scales& scales,
                                      const QuantizedRow& row, int g, int part) {
  const Vf x = vset(row.scales()[g]);
  if constexpr (S == Scheme::Column) return vfma(vfloat(integer), x, sum);
  const Vf added = vfma(vfloat(integer), vmul(scales.d, x), sum);
  if constexpr (S == Scheme::Affine || S == Scheme::Super32)
    return vfma(scales.m, vset(row.scaled_sums()[g]), added);
  if constexpr (S == Scheme::Super16A) {
    const float half_sum = static_cast<float>(row.half_sums()[2 * g + part]);
    return vfma(scales.m, vset(row.scales()[g] * half_sum), added);
  }
  return added;
}

// Rows x 32 columns straight from the packed blocks. If these rows are `all`, the walk is bound by
// memory, so lines are asked for some way ahead, across the end of the panel into the next one, and
// pass the caches by where that is faster: they come back once a token, when the caches hold other
// things. If not, the tiles of a panel bring in the next one together.
template <Format F, int R>
void few_rows(const Weight& weight, int panel, const QuantizedRows& x, int first_row, float* c,
              bool all, Ahead& next) {
  static constexpr Layout L = layout_of(F);
  static constexpr int parts = has_parts(L.scheme) ? 2 : 1;
  const uint8_t* base = weight.panel(panel);
  // Rows that take several tiles are spread over them: none of those is as small as half a tile.
  constexpr bool always_all = 2 * R < kFewRows || kDirectRows == kFewRows;
  Vf sums[2][R];
  unroll<2 * R>([&](auto i) INLINE { sums[i / R][i % R] = vzero(); });
  constexpr int lines = static_cast<int>(L.group_bytes() / 64);
  const uint8_t* const end = base + weight.panel_bytes();
  const int groups = weight.groups();
  for (int g = 0; g < groups; ++g) {
    const uint8_t* const here = base + L.block_at(g, 0);
    if (always_all || all) {
      const uint8_t* ahead = here + kPrefetchBytes;
      if (ahead >= end && next.at) ahead = next.at + (ahead - end);
      if (kPassesCaches)
        unroll<lines>([&](auto line) INLINE { vstream(ahead + 64 * line); });
      else
        unroll<lines>([&](auto line) INLINE { vprefetch_near(ahead + 64 * line); });
    } else {
      next.step();
    }
    unroll<2>([&](auto half) INLINE {
      Vb bits[8];
      unpack_block<F>(base + L.block_at(g, half), bits);
      unroll<parts>([&](auto part) INLINE {
        const Scales scales = panel_scales<F>(base, g, half, part);
        unroll<R>([&](auto r) INLINE {
          const QuantizedRow row = x.row(first_row + r);
          const int8_t* values = row.values() + kGroup * g;
          Vi even = vizero();
          if constexpr (has_offset(L.scheme))
            even = vipairs(viset(load_pair(row.half_sums() + 2 * g)), offset_factors<F>(part));
          Vi odd = vizero();
          unroll<4 / parts>([&](auto i) INLINE {
            constexpr int j = 2 * i + part * (8 / parts);
            even = vdot_four<is_wide(F)>(even, bits[j], values + 4 * j);
            odd = vdot_four<is_wide(F)>(odd, bits[j + 1], values + 4 * j + 4);
          });
          sums[half][r] = fold<L.scheme>(sums[half][r], viadd(even, odd), scales, row, g, part);
        });
      });
    });
  }
  unroll<R>([&](auto r) INLINE {
    vstore(c + 32 * r, sums[0][r]);
    vstore(c + 32 * r + 16, sums[1][r]);
  });
}

template <Format F>
void expand(const Weight& weight, int panel, int first_group, int groups, const Expanded& to) {
  static constexpr Layout L = layout_of(F);
  static constexpr int parts = has_parts(L.scheme) ? 2 : 1;
  const uint8_t* base = weight.panel(panel);
  for (int g = 0; g < groups; ++g)
    unroll<2>([&](auto half) INLINE {
      Vb bits[8];
      unpack_block<F>(base + L.block_at(first_group + g, half), bits);
      unroll<8>([&](auto j)
                    INLINE { vbstore(to.bytes + 1024 * g + 128 * j + 64 * half, bits[j]); });
      if constexpr (L.scheme != Scheme::Column)
        unroll<parts>([&](auto part) INLINE {
          const Scales scales = panel_scales<F>(base, first_group + g, half, part);
          vstore(to.d + 32 * (g * parts + part) + 16 * half, scales.d);
          vstore(to.m + 32 * (g * parts + part) + 16 * half, scales.m);
        });
    });
}

// R rows x 32 columns from an unpacked panel; adds to c unless `first`.
template <Format F, int R>
void tile(const Expanded& w, const QuantizedRows& x, int first_row, int first_group, int groups,
          float* c, bool first, Ahead& next) {
  static constexpr Scheme S = layout_of(F).scheme;
  static constexpr int parts = has_parts(S) ? 2 : 1;
  Vf sums[R][2];
  unroll<2 * R>([&](auto i) INLINE {
    sums[i / 2][i % 2] = first ? vzero() : vload(c + 32 * (i / 2) + 16 * (i % 2));
  });
  for (int g = 0; g < groups; ++g) {
    const int at = first_group + g;
    next.step();
    unroll<parts>([&](auto part) INLINE {
      Vi integers[R][2];
      unroll<R>([&](auto r) INLINE {
        if constexpr (has_offset(S))
          integers[r][0] = vipairs(viset(load_pair(x.row(first_row + r).half_sums() + 2 * at)),
                                   offset_factors<F>(part));
        else
          integers[r][0] = vizero();
        integers[r][1] = integers[r][0];
      });
      unroll<8 / parts>([&](auto i) INLINE {
        constexpr int j = i + part * (8 / parts);
        const Vb w0 = vbload(w.bytes + 1024 * g + 128 * j);
        const Vb w1 = vbload(w.bytes + 1024 * g + 128 * j + 64);
        unroll<R>([&](auto r) INLINE {
          const Vb four = vbfour(x.row(first_row + r).values() + kGroup * at + 4 * j);
          integers[r][0] = vdot<is_wide(F)>(integers[r][0], w0, four);
          integers[r][1] = vdot<is_wide(F)>(integers[r][1], w1, four);
        });
      });
      unroll<2>([&](auto side) INLINE {
        Scales scales{vzero(), vzero()};
        if constexpr (S != Scheme::Column)
          scales = {vload(w.d + 32 * (g * parts + part) + 16 * side),
                    vload(w.m + 32 * (g * parts + part) + 16 * side)};
        unroll<R>([&](auto r) INLINE {
          sums[r][side] =
              fold<S>(sums[r][side], integers[r][side], scales, x.row(first_row + r), at, part);
        });
      });
    });
  }
  unroll<2 * R>([&](auto i)
                    INLINE { vstore(c + 32 * (i / 2) + 16 * (i % 2), sums[i / 2][i % 2]); });
}

// The three steps for one format, with one tile for each number of rows.
struct ProductI8 {
  using Few = void (*)(const Weight&, int, const QuantizedRows&, int, float*, bool, Ahead&);
  using Tile = void (*)(const Expanded&, const QuantizedRows&, int, int, int, float*, bool, Ahead&);
  int direct_rows;  // up to which blocks are unpacked in registers, again for every tile
  std::array<Few, kFewRows> few;
  void (*expand)(const Weight&, int, int, int, const Expanded&);
  std::array<Tile, kTileRows> tiles;
};

template <Format F, int... A, int... B>
constexpr ProductI8 product_i8(std::integer_sequence<int, A...>, std::integer_sequence<int, B...>) {
  // Scales of half groups take longer to unpack.
  const int direct = has_parts(layout_of(F).scheme) ? kDirectRows / 2 : kDirectRows;
  return {direct < kFewRows ? kFewRows : direct,
          {few_rows<F, A + 1>...},
          expand<F>,
          {tile<F, B + 1>...}};
}

template <Format F>
inline constexpr ProductI8 kProductI8 = product_i8<F>(std::make_integer_sequence<int, kFewRows>{},
                                                      std::make_integer_sequence<int, kTileRows>{});

inline const ProductI8& product_i8_of(Format format) {
  switch (format) {
    case Format::Q4_0: return kProductI8<Format::Q4_0>;
    case Format::Q4_1: return kProductI8<Format::Q4_1>;
    case Format::Q5_0: return kProductI8<Format::Q5_0>;
    case Format::Q5_1: return kProductI8<Format::Q5_1>;
    case Format::Q8_0: return kProductI8<Format::Q8_0>;
    case Format::Q2_K: return kProductI8<Format::Q2_K>;
    case Format::Q3_K: return kProductI8<Format::Q3_K>;
    case Format::Q4_K: return kProductI8<Format::Q4_K>;
    case Format::Q5_K: return kProductI8<Format::Q5_K>;
    case Format::Q6_K: return kProductI8<Format::Q6_K>;
    default: return kProductI8<Format::I8>;
  }
}
