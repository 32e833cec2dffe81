// What a timeline puts on its canvas.

function drawAxis(line, context) {
  const { view, width, height } = line;
  const step = niceStep(view.end - view.start, Math.max(width / 110, 1));
  context.fillStyle = paint("var(--line)");
  const first = Math.ceil(view.start / step - 1e-9);
  const labels = [];
  for (let each = first; each * step <= view.end; each += 1) {
    const x = line.x(each * step);
    context.fillRect(Math.round(x), AXIS - 4, 1, height - AXIS + 4);
    labels.push([x, axisLabel(each * step, step)]);
  }
  context.fillStyle = paint("var(--muted)");
  labels.forEach(([x, text]) => context.fillText(text, Math.min(x + 3, width - context.measureText(text).width), 8));
}

// A time with as many digits as its step needs.
function axisLabel(time, step) {
  const [unit, name] = TIMES.find(([size]) => Math.max(time, step) >= size * 0.999) ?? TIMES.at(-1);
  const places = Math.min(Math.max(-Math.floor(Math.log10(step / unit) + 1e-9), 0), 9);
  return `${(time / unit).toFixed(places)}${NARROW}${name}`;
}

function drawLanes(line, context) {
  for (const { request, index, lane } of line.lanes) {
    if (request.ended < line.view.start || request.arrived > line.view.end) continue;
    const y = AXIS + lane * line.lane;
    for (const [name, start, end] of phases(request)) {
      const color = `var(${PHASES[name]})`;
      box(context, color, line.x(start), line.x(end), y, line.lane - 1, line.width);
      if (name !== "queue") label(context, color, `${index} ${name}`, line.x(start), line.x(end), y, line.lane - 1, line.width);
    }
  }
}

function box(context, color, left, right, y, height, width) {
  const from = Math.max(left, 0);
  const to = Math.min(right, width);
  if (to <= from) return;
  context.fillStyle = paint(color);
  context.fillRect(from, y, Math.max(to - from, 0.5), height);
}

// A text inside a box, if it fits.
function label(context, color, text, left, right, y, height, width) {
  const from = Math.max(left, 0) + 4;
  const room = Math.min(right, width) - from - 3;
  if (room < 12 || height < 11 || context.measureText(text).width > room) return;
  context.fillStyle = readableOn(color);
  context.fillText(text, from, y + height / 2 + 0.5);
}

function drawTicks(line, context) {
  const { run, view } = line;
  if (!run.ticks.length) return;
  const first = lastBefore(run.starts, view.start);
  const last = lastBefore(run.starts, view.end);
  const room = line.x(run.starts[last] + run.lengths[last]) - line.x(run.starts[first]);
  if (room / (last - first + 1) < NARROWEST) drawShares(line, context);
  else for (let index = first; index <= last; index += 1) drawTick(line, context, index);
  drawSelection(line, context);
}

function drawSelection(line, context) {
  if (line.selected === null) return;
  const left = line.x(line.run.starts[line.selected]);
  const wide = line.x(line.run.starts[line.selected] + line.run.lengths[line.selected]) - left;
  context.strokeStyle = paint("var(--ink)");
  context.lineWidth = 1.5;
  context.strokeRect(left - 1, line.top - 1, Math.max(wide, 1) + 2, line.height - line.top);
}

// Many ticks a pixel: how their time divides, a column each.
function drawShares(line, context) {
  const { run, view, width, top } = line;
  const height = line.height - top;
  for (let x = 0; x < width; x += 1) {
    const from = line.time(x);
    const to = line.time(x + 1);
    let first = lastBefore(run.starts, from);
    if (run.starts[first] + run.lengths[first] < from) first += 1;
    const after = lastBefore(run.starts, to) + 1;
    if (first >= after || run.starts[first] > to || to < view.start) continue;
    drawColumn(run.parts, context, first, after, x, top, height);
  }
}

function drawColumn(parts, context, first, after, x, top, height) {
  const spent = parts.map((part) => part.before[after] - part.before[first]);
  const total = sum(spent);
  let y = top;
  spent.forEach((seconds, at) => {
    const tall = (seconds / total) * height;
    if (tall > 0.2) {
      context.fillStyle = paint(parts[at].color);
      context.fillRect(x, y, 1, tall);
    }
    y += tall;
  });
}

function drawTick(line, context, index) {
  const { run, width, top } = line;
  const { start } = run.ticks[index];
  const left = line.x(start);
  const right = line.x(start + run.lengths[index]);
  const color = index % 2 ? "var(--stage-fetch)" : "var(--stage-write)";
  box(context, color, left, right - 0.5, top, STAGE, width);
  label(context, color, `tick ${index}`, left, right, top, STAGE, width);
  const second = top + STAGE + GAP;
  for (const stage of stagesOf(run.ticks[index])) {
    const [from, to] = [line.x(stage.start), line.x(stage.start + stage.length)];
    box(context, STAGES[stage.name] && `var(${STAGES[stage.name]})`, from, to, second, STAGE, width);
    label(context, colorOf(stage.name), stage.name, from, to, second, STAGE, width);
  }
  drawPieces(line, context, line.inside(index), second + STAGE + GAP);
}

// Pieces narrower than a pixel share it: it gets the colour of the longest of them.
function drawPieces(line, context, pieces, y) {
  let pixel = null;
  const flush = () => pixel && box(context, pixel.color, pixel.x, pixel.x + 1, y, INSIDE, line.width);
  for (const piece of pieces) {
    const left = line.x(piece.start);
    const right = line.x(piece.start + piece.length);
    if (right < 0 || left > line.width) continue;
    if (right - left >= 1.5) {
      drawPiece(line, context, piece, left, right, y);
      continue;
    }
    const x = Math.floor(left);
    if (pixel?.x !== x) {
      flush();
      pixel = { x, length: 0 };
    }
    if (piece.length > pixel.length) Object.assign(pixel, { length: piece.length, color: piece.color });
  }
  flush();
}

function drawPiece(line, context, piece, left, right, y) {
  const apart = right - left > 4 ? 0.5 : 0;
  box(context, piece.color, left, right - apart, y, INSIDE, line.width);
  label(context, piece.color, piece.name, left, right, y, INSIDE, line.width);
}
