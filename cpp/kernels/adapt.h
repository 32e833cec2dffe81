// What adapters change: y += (x · Aᵀ) · (scale · Bᵀ), in two steps with all of x · Aᵀ between them.
//
// Rows that share an adapter are taken together, so that its matrices are read once for all. Every
// number of x · Aᵀ is a sum over lanes of its own, and every sum over ranks runs in order, so that
// a row's result does not depend on its company.

inline constexpr int kRankBlock = 16;     // rows of A in a unit of work
inline constexpr int kColumnBlock = 128;  // columns of y in a unit of work
inline constexpr int kDownRows = kFloatRows < 4 ? kFloatRows : 4;
inline constexpr int kDownRanks = kFloatRows < 4 ? 2 : Adapters::kRankStep;
inline constexpr int kUpRows = kFloatRows < AdaptedRows::kTile ? kFloatRows : AdaptedRows::kTile;

// R rows of x times kDownRanks rows of A, into u.
template <int R>
void down_tile(const float* const* x, int columns, const float* a, size_t stride, float* const* u) {
  constexpr int N = kDownRanks;
  Vf sums[R][N];
  unroll<R * N>([&](auto i) INLINE { sums[i / N][i % N] = vzero(); });
  const auto add = [&](int k, auto load) INLINE {
    Vf lanes[N];
    unroll<N>([&](auto n) INLINE { lanes[n] = vload(a + size_t(n) * stride + k); });
    unroll<R>([&](auto r) INLINE {
      const Vf value = load(x[r]);
      unroll<N>([&](auto n) INLINE { sums[r][n] = vfma(value, lanes[n], sums[r][n]); });
    });
  };
  int k = 0;
  for (; k + 16 <= columns; k += 16)
    add(k, [&](const float* row) INLINE { return vload(row + k); });
  if (k < columns) add(k, [&](const float* row) INLINE { return vload_tail(row, k, columns); });
  unroll<R * N>([&](auto i) INLINE { u[i / N][i % N] = vsum(sums[i / N][i % N]); });
}

// R rows of u times 32 columns of Bᵀ, added to y.
template <int R>
void up_tile(const float* const* u, int rank, const float* b, size_t stride, float* const* y,
             int valid) {
  Vf sums[R][2];
  unroll<2 * R>([&](auto i) INLINE { sums[i / 2][i % 2] = vzero(); });
  for (int k = 0; k < rank; ++k, b += stride) {
    const Vf b0 = vload(b);
    const Vf b1 = vload(b + 16);
    unroll<R>([&](auto r) INLINE {
      const Vf value = vset(u[r][k]);
      sums[r][0] = vfma(value, b0, sums[r][0]);
      sums[r][1] = vfma(value, b1, sums[r][1]);
    });
  }
  unroll<2 * R>([&](auto i) INLINE {
    float* to = y[i / 2];
    const int at = 16 * (i % 2);
    vstore_tail(to, at, valid, vadd(vload_tail(to, at, valid), sums[i / 2][i % 2]));
  });
}

using DownTile = void (*)(const float* const*, int, const float*, size_t, float* const*);
using UpTile = void (*)(const float* const*, int, const float*, size_t, float* const*, int);

template <int... R>
constexpr std::array<DownTile, kDownRows> down_tiles(std::integer_sequence<int, R...>) {
  return {down_tile<R + 1>...};
}
template <int... R>
constexpr std::array<UpTile, kUpRows> up_tiles(std::integer_sequence<int, R...>) {
  return {up_tile<R + 1>...};
}
inline constexpr auto kDownTiles = down_tiles(std::make_integer_sequence<int, kDownRows>{});
inline constexpr auto kUpTiles = up_tiles(std::make_integer_sequence<int, kUpRows>{});

// Row i of the adapted rows in x · Aᵀ.
inline float* projected(const Frame& frame, int i) {
  return frame.partials + size_t(i) * size_t(frame.adapters.stride());
}

// A tile's rows from `done` on, at most N: where they are in x or y, and in x · Aᵀ.
template <int N>
struct TileRows {
  int count;
  float* rows[N];
  float* u[N];

  TileRows(const Frame& frame, const AdaptedRows& adapted, const AdaptedRows::Tile& tile, int done,
           const FloatRows& values)
      : count(std::min(N, tile.count - done)) {
    for (int r = 0; r < count; ++r) {
      const int i = tile.first + done + r;
      rows[r] = values.row(adapted.rows[size_t(i)]);
      u[r] = projected(frame, i);
    }
  }
};

inline void copy_rows(const Frame& frame, const Instruction& instruction, int first, int stop) {
  const Operand& y = instruction.one(Role::Y);
  const FloatRows from = frame.floats(instruction.one(Role::A));
  const FloatRows to = frame.floats(y);
  if (from.data == to.data) return;
  for (int row = first; row < stop; ++row)
    __builtin_memcpy(to.row(row), from.row(row), sizeof(float) * size_t(y.columns));
}

inline void project(const Frame& frame, const Instruction& instruction, int number, int block) {
  const Operand& x = instruction.one(Role::X);
  const AdaptedRows& adapted = frame.adapted(x);
  const AdaptedRows::Tile& tile = adapted.tiles[size_t(number)];
  const LowRank* change = frame.change(tile, instruction);
  if (!change) return;
  const int stop = std::min(change->rank, (block + 1) * kRankBlock);
  for (int done = 0; done < tile.count; done += kDownRows) {
    TileRows<kDownRows> at(frame, adapted, tile, done, frame.floats(x));
    for (int rank = block * kRankBlock; rank < stop; rank += kDownRanks) {
      float* u[kDownRows];
      for (int r = 0; r < at.count; ++r) u[r] = at.u[r] + rank;
      kDownTiles[size_t(at.count - 1)](at.rows, x.columns,
                                       change->down + size_t(rank) * change->down_stride,
                                       change->down_stride, u);
    }
  }
}

// First step: all rows are copied to y unless they are there, and x · Aᵀ goes to the partials.
inline void adapt(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& y = instruction.one(Role::Y);
  const int copies = (frame.rows(y) + AdaptedRows::kTile - 1) / AdaptedRows::kTile;
  const int blocks = (frame.adapters.stride() + kRankBlock - 1) / kRankBlock;
  const int total = copies + static_cast<int>(frame.adapted(y).tiles.size()) * blocks;
  for (int begin, end; lane.claim(total, 1, begin, end);) {
    if (begin < copies)
      copy_rows(frame, instruction, begin * AdaptedRows::kTile,
                std::min(frame.rows(y), (begin + 1) * AdaptedRows::kTile));
    else
      project(frame, instruction, (begin - copies) / blocks, (begin - copies) % blocks);
  }
}

// Second step: (x · Aᵀ) · (scale · Bᵀ) is added.
inline void adapt_up(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& y = instruction.one(Role::Y);
  const AdaptedRows& adapted = frame.adapted(y);
  const int blocks = (y.columns + kColumnBlock - 1) / kColumnBlock;
  const int total = static_cast<int>(adapted.tiles.size()) * blocks;
  for (int begin, end; lane.claim(total, 1, begin, end);) {
    const AdaptedRows::Tile& tile = adapted.tiles[size_t(begin / blocks)];
    const LowRank* change = frame.change(tile, instruction);
    if (!change) continue;
    const int first = begin % blocks * kColumnBlock;
    const int stop = std::min(y.columns, first + kColumnBlock);
    for (int done = 0; done < tile.count; done += kUpRows) {
      TileRows<kUpRows> at(frame, adapted, tile, done, frame.floats(y));
      for (int column = first; column < stop; column += 32) {
        float* to[kUpRows];
        for (int r = 0; r < at.count; ++r) to[r] = at.rows[r] + column;
        kUpTiles[size_t(at.count - 1)](at.u, change->rank, change->up + column, change->up_stride,
                                       to, std::min(32, y.columns - column));
      }
    }
  }
}
