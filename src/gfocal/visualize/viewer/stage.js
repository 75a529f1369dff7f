// Drawing: the image with its boxes, and the chart of one edge. Everything is SVG in pixels of the original image.

const SVG = "http://www.w3.org/2000/svg";
const MAX_LABELS = 12; // of more boxes only the active one is labeled
const NEAR = 9; // pixels of the screen from which the pointer is on an edge
const LEAST = 0.002; // probability of a bin that is drawn

function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function rect(box, kind, color) {
  const element = draw("rect", {
    x: box[0], y: box[1], width: Math.max(0, box[2] - box[0]), height: Math.max(0, box[3] - box[1]), class: kind,
  });
  if (color) element.style.setProperty("--color", color);
  return element;
}

function frame(box, kind, color) {
  const group = draw("g", {});
  group.append(rect(box, "halo"), rect(box, `frame ${kind}`, color));
  return group;
}

// Pixels of the image to a pixel of the screen.
function unitOf(svg) {
  const { width, height } = svg.viewBox.baseVal, size = svg.getBoundingClientRect();
  return Math.max(width / (size.width || 1), height / (size.height || 1)) || 1;
}

function colorOf(image, i, settings) {
  return image.kinds ? "" : settings.palette[image.labels[i] % settings.palette.length];
}

function kindOf(image, i) {
  if (!image.kinds) return "plain";
  return image.kinds[i] === RIGHT ? "right" : image.kinds[i] === IGNORED ? "ignored" : "wrong";
}

function areaOfView(view) {
  return view.zoom || [0, 0, view.image.width, view.image.height];
}

// The image with all boxes. ``view``: image, pixels (a data URI or null), shown, groundTruth, zoom (a box or null),
// settings, chosen.
function drawStage(svg, view) {
  const { image, shown, groundTruth, settings, chosen } = view;
  const area = areaOfView(view);
  svg.setAttribute("viewBox", `${area[0]} ${area[1]} ${area[2] - area[0]} ${area[3] - area[1]}`);
  svg.replaceChildren(draw("rect", { x: 0, y: 0, width: image.width, height: image.height, class: "ground" }));
  if (view.pixels) {
    const { width, height } = image;
    svg.append(draw("image", { x: 0, y: 0, width, height, preserveAspectRatio: "none", href: view.pixels }));
  }
  const boxes = draw("g", { class: "boxes" }), unit = unitOf(svg);
  const isLabeled = shown.length + (chosen.missed ? groundTruth.missed.length : 0) <= MAX_LABELS;
  for (const kind of ["ignored", "annotated", "missed"]) {
    if (!chosen[kind]) continue;
    for (const g of groundTruth[kind]) {
      const box = boxOf(image.gt_boxes, g);
      boxes.append(frame(box, `gt ${kind}`));
      const name = `missed ${settings.names[image.gt_labels[g]]}`;
      if (kind === "missed" && isLabeled) boxes.append(label(box, name, unit, area));
    }
  }
  for (const i of drawingOrder(image, shown)) {
    boxes.append(frame(boxOf(image.boxes, i), kindOf(image, i), colorOf(image, i, settings)));
    if (isLabeled) boxes.append(label(boxOf(image.boxes, i), nameOf(view, i), unit, area));
  }
  svg.append(boxes, draw("g", { class: "active" }));
}

// True positives above all others, small boxes above large ones.
function drawingOrder(image, shown) {
  const isRight = (i) => kindOf(image, i) === "right";
  return [...shown].sort((a, b) => isRight(a) - isRight(b) || areaOf(image, b) - areaOf(image, a));
}

function areaOf(image, i) {
  const [x0, y0, x1, y1] = boxOf(image.boxes, i);
  return (x1 - x0) * (y1 - y0);
}

function nameOf(view, i) {
  return `${view.settings.names[view.image.labels[i]]} ${view.image.scores[i].toFixed(2)}`;
}

// Above a box or inside it; at its right end where it would be cut off else.
function label(box, text, unit, area) {
  const size = 13 * unit, y = box[1] - 4 * unit, isCut = box[0] + 0.65 * size * text.length > area[2];
  return draw("text", {
    x: isCut ? Math.min(box[2], area[2] - 2 * unit) : Math.max(box[0], area[0] + 2 * unit),
    y: y - size < area[1] ? Math.max(box[1], area[1]) + size : y,
    "text-anchor": isCut ? "end" : "start", "font-size": size, "stroke-width": 3 * unit,
  }, text);
}

// What is drawn of the active detection: its box, the intervals of its edges, and the distribution of one of them.
function drawActive(svg, view, active) {
  const layer = svg.querySelector(".active"), { image, settings, chosen } = view;
  layer.replaceChildren();
  svg.classList.toggle("has-active", active !== null);
  if (!active) return;
  const box = boxOf(image.boxes, active.i), color = colorOf(image, active.i, settings);
  for (const side of active.side === null ? [0, 1, 2, 3] : [active.side]) {
    const interval = intervalOf(image, active.i, side, settings, chosen.coverage, chosen.guarantee);
    const kind = side === active.side ? "band chosen" : "band";
    if (interval) layer.append(rect(across(box, side, interval), kind, color));
  }
  if (active.side !== null) drawDistribution(layer, image, active, box);
  const match = matchOf(image, active.i);
  if (match >= 0) layer.append(frame(boxOf(image.gt_boxes, match), "gt annotated"));
  layer.append(frame(box, `${kindOf(image, active.i)} chosen`, color));
  const at = box[active.side];
  if (active.side !== null) layer.append(rect(across(box, active.side, [at, at]), "edge"));
  layer.append(label(box, nameOf(view, active.i), unitOf(svg), areaOfView(view)));
}

// Each bin as a strip along the edge, the darker the more probable.
function drawDistribution(layer, image, active, box) {
  const distribution = distributionOf(image, active.i, active.side);
  if (!distribution) return;
  const most = Math.max(...distribution.probabilities), half = distribution.size / 2;
  distribution.probabilities.forEach((p, k) => {
    if (p < LEAST) return;
    const at = distribution.positions[k], strip = rect(across(box, active.side, [at - half, at + half]), "bin");
    strip.setAttribute("opacity", (0.5 * p / most).toFixed(3));
    layer.append(strip);
  });
}

// The box, from ``range[0]`` to ``range[1]`` along the axis of a side.
function across(box, side, range) {
  return side % 2 ? [box[0], range[0], box[2], range[1]] : [range[0], box[1], range[1], box[3]];
}

// The detection and edge nearest to a point of the image; within a box, away from edges, the smallest box alone.
function findNearest(view, x, y, unit) {
  let best = null, least = NEAR * unit, inside = null;
  for (const i of view.shown) {
    const [x0, y0, x1, y1] = boxOf(view.image.boxes, i);
    const dx = Math.max(x0 - x, 0, x - x1), dy = Math.max(y0 - y, 0, y - y1);
    const near = [Math.hypot(x - x0, dy), Math.hypot(y - y0, dx), Math.hypot(x - x1, dy), Math.hypot(y - y1, dx)];
    near.forEach((distance, side) => {
      if (distance < least) {
        least = distance;
        best = { i, side };
      }
    });
    if (dx + dy === 0 && (inside === null || areaOf(view.image, i) < areaOf(view.image, inside))) inside = i;
  }
  return best || (inside === null ? null : { i: inside, side: null });
}

// The distribution of an edge as bars where its bins lie, with its place, its interval and the ground truth.
function drawChart(svg, image, active, interval, groundTruth) {
  svg.replaceChildren();
  const distribution = active && active.side !== null ? distributionOf(image, active.i, active.side) : null;
  svg.toggleAttribute("hidden", !distribution);
  if (!distribution) return;
  const left = 8, width = 304, base = 118, height = 104, { size, positions, probabilities } = distribution;
  const place = image.boxes[4 * active.i + active.side], most = Math.max(...probabilities);
  const bins = probabilities.map((p, k) => ({ at: positions[k], p })).filter(({ p }) => p > LEAST);
  const marks = [place, ...(interval || []), ...(groundTruth === null ? [] : [groundTruth])];
  const ends = [...bins.flatMap(({ at }) => [at - size / 2, at + size / 2]), ...marks];
  const low = Math.min(...ends), high = Math.max(...ends), scale = width / Math.max(high - low, 1e-6);
  const x = (at) => left + (at - low) * scale;
  for (const { at, p } of bins) {
    const bar = draw("rect", {
      class: "bar", x: x(at - size / 2) + 0.5, y: base - height * p / most,
      width: Math.max(0.5, size * scale - 1), height: height * p / most,
    });
    bar.append(draw("title", {}, `${at.toFixed(1)} px: ${(100 * p).toFixed(1)} %`));
    svg.append(bar);
  }
  if (interval) {
    const [start, end] = interval.map(x), y = base - height - 5;
    svg.append(draw("rect", { class: "band", x: start, y, width: end - start, height: base - y }));
    svg.append(draw("path", { class: "ends", d: `M${start} ${base}V${y}H${end}V${base}` }));
  }
  svg.append(draw("line", { class: "axis", x1: left, x2: left + width, y1: base, y2: base }));
  for (const at of ticksOf(low, high)) {
    svg.append(draw("line", { class: "axis", x1: x(at), x2: x(at), y1: base, y2: base + 4 }));
    svg.append(draw("text", { x: x(at), y: base + 16 }, String(at)));
  }
  const line = (kind, at) => draw("line", { class: kind, x1: x(at), x2: x(at), y1: base - height, y2: base });
  svg.append(line("place", place));
  if (groundTruth !== null) svg.append(line("gt", groundTruth));
  const axis = active.side % 2 ? "y" : "x";
  svg.append(draw("text", { x: left + width / 2, y: base + 30 }, `${axis}, pixels of the image`));
}

// About five round numbers of an axis.
function ticksOf(low, high) {
  const rough = Math.max(high - low, 1e-6) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((one) => one >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step))), found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(Number((k * step).toFixed(digits)));
  return found;
}
