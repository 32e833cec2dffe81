// Elementary functions on vectors, within a few units in the last place unless said otherwise.

inline constexpr float kLeastExponent = -87.3f;

// e^x for x from kLeastExponent to 88; anything elsewhere.
inline Vf vexp_within(Vf x) {
  const Vf n = vround(vmul(x, vset(1.44269504089f)));
  Vf r = vfma(n, vset(-0.693359375f), x);
  r = vfma(n, vset(2.12194440e-4f), r);
  Vf p = vset(1.9875691500e-4f);
  p = vfma(p, r, vset(1.3981999507e-3f));
  p = vfma(p, r, vset(8.3334519073e-3f));
  p = vfma(p, r, vset(4.1665795894e-2f));
  p = vfma(p, r, vset(1.6666665459e-1f));
  p = vfma(p, r, vset(5.0000001201e-1f));
  p = vfma(vmul(r, r), p, vadd(r, vset(1.0f)));
  return vscale2(p, n);
}

// e^x for x up to 88; exactly 0 below kLeastExponent, so that masked scores take no part in a sum.
inline Vf vexp_bounded(Vf x) {
  const Vf lowest = vset(kLeastExponent);
  return vbelow(x, lowest, vzero(), vexp_within(vmax(x, lowest)));
}

// The same for any x; as large as f32 allows above 88.3.
inline Vf vexp(Vf x) { return vexp_bounded(vmin(x, vset(88.3f))); }

// tanh through the exponential; absolute error below 2e-7.
inline Vf vtanh(Vf x) {
  const Vf e = vexp(vmul(vset(2.0f), x));
  return vsub(vset(1.0f), vdiv(vset(2.0f), vadd(e, vset(1.0f))));
}

// erf(x / sqrt 2), absolute error below 2e-7: x · P(x²) / Q(x²), fitted by weighted least squares
// on [0, 5.2], beyond which it is 1 in f32.
inline Vf verf_sqrt_half(Vf x) {
  const Vf bounded = vmin(vmax(x, vset(-5.2f)), vset(5.2f));
  const Vf z = vmul(bounded, bounded);
  Vf p = vset(4.8081523859876624e-08f);
  p = vfma(p, z, vset(1.2924393115980009e-05f));
  p = vfma(p, z, vset(3.3023741935559657e-04f));
  p = vfma(p, z, vset(9.3147139447798330e-03f));
  p = vfma(p, z, vset(6.6708222870501620e-02f));
  p = vfma(p, z, vset(7.9788431028903870e-01f));
  Vf q = vset(1.2430066836302154e-06f);
  q = vfma(q, z, vset(7.3154851096985420e-05f));
  q = vfma(q, z, vset(1.8632134911787538e-03f));
  q = vfma(q, z, vset(2.8388185148766130e-02f));
  q = vfma(q, z, vset(2.5027167580410714e-01f));
  q = vfma(q, z, vset(1.0f));
  return vmul(vmul(bounded, p), vrecip(q));
}

inline Vf vsilu(Vf x) { return vmul(x, vrecip(vadd(vset(1.0f), vexp(vsub(vzero(), x))))); }

inline Vf vgelu(Vf x) {
  const Vf half = vmul(vset(0.5f), x);
  return vfma(half, verf_sqrt_half(x), half);
}

inline Vf vgelu_tanh(Vf x) {
  const Vf cube = vmul(vmul(x, x), x);
  const Vf inner = vmul(vset(0.79788456f), vfma(vset(0.044715f), cube, x));
  const Vf half = vmul(vset(0.5f), x);
  return vfma(half, vtanh(inner), half);
}

inline Vf vactivate(Activation function, Vf x) {
  switch (function) {
    case Activation::Silu: return vsilu(x);
    case Activation::Gelu: return vgelu(x);
    case Activation::GeluTanh: return vgelu_tanh(x);
    case Activation::Relu: return vmax(x, vzero());
    case Activation::Tanh: return vtanh(x);
    case Activation::None: break;
  }
  return x;
}
