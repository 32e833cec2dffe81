// Elementary functions on vectors, within a few units in the last place unless said otherwise.

// e^x; exactly 0 below -87.3, so that masked scores take no part in a sum.
inline Vf vexp(Vf x) {
  const Vf lowest = vset(-87.3f);
  const Vf bounded = vmin(vmax(x, lowest), vset(88.3f));
  const Vf n = vround(vmul(bounded, vset(1.44269504089f)));
  Vf r = vfma(n, vset(-0.693359375f), bounded);
  r = vfma(n, vset(2.12194440e-4f), r);
  Vf p = vset(1.9875691500e-4f);
  p = vfma(p, r, vset(1.3981999507e-3f));
  p = vfma(p, r, vset(8.3334519073e-3f));
  p = vfma(p, r, vset(4.1665795894e-2f));
  p = vfma(p, r, vset(1.6666665459e-1f));
  p = vfma(p, r, vset(5.0000001201e-1f));
  p = vfma(vmul(r, r), p, vadd(r, vset(1.0f)));
  return vbelow(x, lowest, vzero(), vscale2(p, n));
}

// tanh through the exponential; absolute error below 2e-7.
inline Vf vtanh(Vf x) {
  const Vf e = vexp(vmul(vset(2.0f), x));
  return vsub(vset(1.0f), vdiv(vset(2.0f), vadd(e, vset(1.0f))));
}

// The error function, absolute error below 2e-7 (Abramowitz and Stegun 7.1.26).
inline Vf verf(Vf x) {
  const Vf magnitude = vabs(x);
  const Vf t = vdiv(vset(1.0f), vfma(vset(0.3275911f), magnitude, vset(1.0f)));
  Vf p = vset(1.061405429f);
  p = vfma(p, t, vset(-1.453152027f));
  p = vfma(p, t, vset(1.421413741f));
  p = vfma(p, t, vset(-0.284496736f));
  p = vfma(p, t, vset(0.254829592f));
  const Vf tail = vmul(vmul(p, t), vexp(vmul(vmul(magnitude, magnitude), vset(-1.0f))));
  const Vf value = vsub(vset(1.0f), tail);
  return vbelow(x, vzero(), vsub(vzero(), value), value);
}

inline Vf vsilu(Vf x) { return vdiv(x, vadd(vset(1.0f), vexp(vsub(vzero(), x)))); }

inline Vf vgelu(Vf x) {
  const Vf half = vmul(vset(0.5f), x);
  return vfma(half, verf(vmul(x, vset(0.70710678f))), half);
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
