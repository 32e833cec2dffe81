// Passes over rows of logits in blocks; see core/logits.h. A block's sums are taken lane by lane
// and then over the lanes, sums of blocks in double, always in the same order.

inline constexpr int kBlockVectors = kLogitBlock / 16;

// Calls body(block, its logits); the last block comes filled up with -inf.
template <class Body>
[[gnu::always_inline]] inline void over_blocks(const float* row, int tokens, Body&& body) {
  const int whole = tokens / kLogitBlock;
  for (int block = 0; block < whole; ++block) body(block, row + size_t(block) * kLogitBlock);
  const int rest = tokens - whole * kLogitBlock;
  if (rest == 0) return;
  float last[kLogitBlock];
  std::fill_n(std::copy_n(row + size_t(whole) * kLogitBlock, rest, last), kLogitBlock - rest,
              -INFINITY);
  body(whole, static_cast<const float*>(last));
}

inline bool find_peaks(const float* row, int tokens, float* peaks) {
  uint32_t nans = 0;
  over_blocks(row, tokens, [&](int block, const float* x) INLINE {
    Vf top = vload(x);
    for (int i = 0; i < kBlockVectors; i += 2) {
      const Vf a = vload(x + 16 * i);
      const Vf b = vload(x + 16 * i + 16);
      nans |= vnans(a, b);
      top = vmax(top, vmax(a, b));
    }
    peaks[block] = vmost(top);
  });
  return nans == 0;
}

inline int find_above(const float* row, int tokens, const float* peaks, float limit, int32_t* ids,
                      int room) {
  int found = 0;
  over_blocks(row, tokens, [&](int block, const float* x) INLINE {
    if (peaks[block] < limit) return;
    for (int i = 0; i < kBlockVectors; ++i)
      for (uint32_t lanes = vreach(vload(x + 16 * i), vset(limit)); lanes; lanes &= lanes - 1) {
        const int id = block * kLogitBlock + 16 * i + __builtin_ctz(lanes);
        if (id >= tokens) return;
        if (found < room) ids[found] = id;
        ++found;
      }
  });
  return found;
}

// A weighing as vectors, for sixteen tokens at once.
struct Scale {
  Vf best, inverse, least, centre, radius;

  explicit Scale(const Weighing& w)
      : best(vset(w.best)),
        inverse(vset(w.inverse)),
        least(vset(std::max(w.least, kLeastExponent))),
        centre(vset(w.centre)),
        radius(vset(w.radius)) {}

  Vf scores(Vf logits) const { return vmul(vsub(logits, best), inverse); }
  // With Near, tokens beyond the radius weigh nothing.
  template <bool Near>
  Vf weights(Vf scores) const {
    const Vf all = vbelow(scores, least, vzero(), vexp_within(scores));
    return Near ? vbelow(radius, vabs(vsub(scores, centre)), vzero(), all) : all;
  }
};

// Calls body with whether the weighing has a radius, as a constant.
template <class Body>
[[gnu::always_inline]] inline void with_radius(const Weighing& weighing, Body&& body) {
  if (weighing.radius < INFINITY)
    body(std::true_type{});
  else
    body(std::false_type{});
}

template <bool Near, bool Moments>
inline void weigh_blocks(const float* row, int tokens, const float* peaks, const Weighing& weighing,
                         float* sums, float* moments) {
  const Scale scale(weighing);
  over_blocks(row, tokens, [&](int block, const float* x) INLINE {
    Vf sum = vzero();
    Vf moment = vzero();
    if (weighing.may_admit(peaks[block], 0.0f, INFINITY))
      for (int i = 0; i < kBlockVectors; ++i) {
        const Vf scores = scale.scores(vload(x + 16 * i));
        const Vf weights = scale.weights<Near>(scores);
        sum = vadd(sum, weights);
        // Far below, where a weight is 0, a score may be infinite.
        if (Moments) moment = vfma(weights, vmax(scores, vset(kLeastExponent)), moment);
      }
    sums[block] = vsum(sum);
    if (Moments) moments[block] = vsum(moment);
  });
}

inline void weigh(const float* row, int tokens, const float* peaks, const Weighing& weighing,
                  float* sums, float* moments) {
  with_radius(weighing, [&](auto near) INLINE {
    if (moments)
      weigh_blocks<near, true>(row, tokens, peaks, weighing, sums, moments);
    else
      weigh_blocks<near, false>(row, tokens, peaks, weighing, sums, moments);
  });
}

inline void weigh_block(const float* logits, int tokens, const Weighing& weighing, float* weights) {
  const Scale scale(weighing);
  for (int k = 0; k < tokens; k += 16) {
    const int lanes = std::min(16, tokens - k);
    vstore_n(weights + k, scale.weights<true>(scale.scores(vload_n(logits + k, lanes))), lanes);
  }
}

template <bool Near>
inline void find_block_masses(const float* row, int tokens, const float* peaks,
                              const Weighing& weighing, float around, const float* limits,
                              double* masses) {
  const Scale scale(weighing);
  std::fill_n(masses, kLimits, 0.0);
  over_blocks(row, tokens, [&](int block, const float* x) INLINE {
    if (!weighing.may_admit(peaks[block], around, limits[kLimits - 1])) return;
    Vf sums[kLimits];
    for (Vf& sum : sums) sum = vzero();
    for (int i = 0; i < kBlockVectors; ++i) {
      const Vf scores = scale.scores(vload(x + 16 * i));
      const Vf weights = scale.weights<Near>(scores);
      const Vf off = vabs(vsub(scores, vset(around)));
      unroll<kLimits>(
          [&](auto j) INLINE { sums[j] = vadd_within(sums[j], weights, off, vset(limits[j])); });
    }
    unroll<kLimits>([&](auto j) INLINE {
      if (weighing.may_admit(peaks[block], around, limits[j])) masses[j] += double(vsum(sums[j]));
    });
  });
}

inline void find_masses(const float* row, int tokens, const float* peaks, const Weighing& weighing,
                        float around, const float* limits, double* masses) {
  with_radius(weighing, [&](auto near) INLINE {
    find_block_masses<near>(row, tokens, peaks, weighing, around, limits, masses);
  });
}

inline int find_between(const float* row, int tokens, const float* peaks, const Weighing& weighing,
                        float around, float inner, float outer, Candidate* found, int room) {
  const Scale scale(weighing);
  int count = 0;
  over_blocks(row, tokens, [&](int block, const float* x) INLINE {
    if (count > room || !weighing.may_admit(peaks[block], around, outer)) return;
    for (int i = 0; i < kBlockVectors; ++i) {
      const Vf scores = scale.scores(vload(x + 16 * i));
      const Vf off = vabs(vsub(scores, vset(around)));
      uint32_t lanes = vreach(vset(outer), off) & ~vreach(vset(inner), off);
      if (lanes == 0) continue;
      float offs[16];
      float weights[16];
      vstore(offs, off);
      vstore(weights, scale.weights<true>(scores));
      for (; lanes; lanes &= lanes - 1) {
        const int lane = __builtin_ctz(lanes);
        if (weights[lane] == 0.0f) continue;
        if (count == room) return void(++count);
        found[count++] = {offs[lane], weights[lane]};
      }
    }
  });
  return count;
}

inline void forbid(float* row, int tokens, const uint32_t* allowed) {
  const Vf never = vset(-INFINITY);
  for (int k = 0; k < tokens; k += 16) {
    const uint32_t lanes = allowed[k / 32] >> (k % 32) & 0xffff;
    if (lanes == 0xffff) continue;
    const int count = std::min(16, tokens - k);
    vstore_n(row + k, vselect(lanes, vload_n(row + k, count), never), count);
  }
}

inline LogitKernels make_logit_kernels() {
  return {find_peaks, find_above, weigh, weigh_block, find_masses, find_between, forbid};
}
