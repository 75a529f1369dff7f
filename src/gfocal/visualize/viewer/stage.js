// Drawing: the image with its boxes, and the chart of one edge. Everything is SVG in pixels of the original image.

const SVG = "http://www.w3.org/2000/svg";
const NEAR = 9, NEAR_FINGER = 20; // pixels of the screen from which a pointer is on an edge
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
  group.append(rect(box, `halo ${kind}`), rect(box, `frame ${kind}`, color));
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
  const boxes = draw("g", { class: "boxes" }), labels = draw("g", { class: "labels" });
  for (const i of drawingOrder(image, shown)) {
    boxes.append(frame(boxOf(image.boxes, i), kindOf(image, i), colorOf(image, i, settings)));
  }
  // The ground truth last: what lies under it shows in the gaps of its dashes.
  for (const kind of ["ignored", "annotated", "missed"]) {
    if (!chosen[kind]) continue;
    for (const g of groundTruth[kind]) boxes.append(frame(boxOf(image.gt_boxes, g), `gt ${kind}`));
  }
  const wanted = labelsOf(view), unit = unitOf(svg);
  const places = placeLabels(wanted, wanted.map(({ box }) => box), area, unit);
  wanted.forEach(({ text, kind, color, i }, k) => {
    if (!places[k]) return;
    const one = drawLabel(places[k], text, kind, color, unit);
    if (i !== undefined) one.dataset.i = i;
    labels.append(one);
  });
  svg.append(boxes, labels, draw("g", { class: "active" }));
}

// What is to be written at boxes, the most important first: errors and missed objects before others, then by score.
function labelsOf({ image, shown, groundTruth, settings, chosen }) {
  const detected = shown.map((i) => ({
    box: boxOf(image.boxes, i), text: nameOf({ image, settings }, i), kind: kindOf(image, i),
    color: colorOf(image, i, settings), i,
  }));
  const missed = (chosen.missed ? groundTruth.missed : []).map((g) => ({
    box: boxOf(image.gt_boxes, g), text: `missed ${settings.names[image.gt_labels[g]]}`, kind: "missed", color: "",
  }));
  const isWrong = ({ kind }) => kind === "wrong";
  return [...detected.filter(isWrong), ...missed, ...detected.filter((one) => !isWrong(one))];
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

// What is drawn of the active detection: its box, the intervals of its edges, and the distribution of one of them.
function drawActive(svg, view, active) {
  const layer = svg.querySelector(".active"), { image, settings } = view;
  layer.replaceChildren();
  svg.classList.toggle("has-active", active !== null);
  for (const one of svg.querySelectorAll(".labels .label")) one.removeAttribute("hidden");
  if (!active) return;
  const box = boxOf(image.boxes, active.i), color = colorOf(image, active.i, settings);
  const limits = limitsOf(view, active.i);
  const kind = kindOf(image, active.i);
  if (limits) drawBands(layer, box, limits, kind, color, active.side);
  if (active.side !== null) drawDistribution(layer, image, active, box, view.zoom ? 0.25 : 0.5);
  layer.append(frame(box, `${kind} chosen`, color));
  if (limits) layer.append(frame(limits.outer, `${kind} limit outer`, color));
  if (limits && limits.inner) layer.append(frame(limits.inner, `${kind} limit inner`, color));
  const match = matchOf(image, active.i), at = box[active.side];
  if (match >= 0) layer.append(frame(boxOf(image.gt_boxes, match), "gt annotated"));
  if (active.side !== null) layer.append(rect(across(box, active.side, [at, at]), "edge"));
  labelActive(svg, layer, view, active.i);
}

// The label of the active detection, and none that it would overprint.
function labelActive(svg, layer, view, i) {
  const { image, settings } = view, unit = unitOf(svg), text = nameOf(view, i), box = boxOf(image.boxes, i);
  const own = svg.querySelector(`.labels [data-i="${i}"]`);
  const place = own ? own.place : placeAlone(box, text, areaOfView(view), unit);
  for (const one of svg.querySelectorAll(".labels .label")) {
    one.toggleAttribute("hidden", sharedArea(one.place, place) > 0);
  }
  layer.append(drawLabel(place, text, kindOf(image, i), colorOf(image, i, settings), unit));
}

// The outer and the inner box of a detection at the chosen coverage; null where there is none. ``inner`` is null where
// the intervals of opposite edges meet: no box is sure to be inside.
function limitsOf({ image, settings, chosen }, i) {
  const all = [0, 1, 2, 3].map((side) => intervalOf(image, i, side, settings, chosen.coverage, chosen.guarantee));
  if (all.includes(null)) return null;
  const outer = all.map((interval, side) => interval[side < 2 ? 0 : 1]);
  const inner = all.map((interval, side) => interval[side < 2 ? 1 : 0]);
  return { outer, inner: inner[0] < inner[2] && inner[1] < inner[3] ? inner : null };
}

// What lies between the box and the outer one, and between it and the inner one: of all edges, or of one.
function drawBands(layer, box, { outer, inner }, kind, color, side) {
  const within = inner || [0, 1, 0, 1].map((axis) => (box[axis] + box[axis + 2]) / 2);
  for (const [place, large, small] of [["outside", outer, box], ["inside", box, within]]) {
    const range = side === null ? null : [large[side], small[side]].sort((a, b) => a - b);
    const band = range ? rect(across(box, side, range)) : draw("path", { d: ringOf(large, small), "fill-rule": "evenodd" });
    band.setAttribute("class", `band ${place} ${kind}`);
    if (color) band.style.setProperty("--color", color);
    layer.append(band);
  }
}

function ringOf(large, small) {
  return [large, small].map(([x0, y0, x1, y1]) => `M${x0} ${y0}H${x1}V${y1}H${x0}Z`).join("");
}

// Each bin as a strip along the edge, the darker the more probable.
function drawDistribution(layer, image, active, box, opacity) {
  const distribution = distributionOf(image, active.i, active.side);
  if (!distribution) return;
  const most = Math.max(...distribution.probabilities), half = distribution.size / 2;
  distribution.probabilities.forEach((p, k) => {
    if (p < LEAST) return;
    const at = distribution.positions[k], strip = rect(across(box, active.side, [at - half, at + half]), "bin");
    strip.setAttribute("opacity", (opacity * p / most).toFixed(3));
    layer.append(strip);
  });
}

// The box, from ``range[0]`` to ``range[1]`` along the axis of a side.
function across(box, side, range) {
  return side % 2 ? [box[0], range[0], box[2], range[1]] : [range[0], box[1], range[1], box[3]];
}

// The detection and edge nearest to a point of the image, nearer than ``least``; within a box, away from edges, the smallest box alone.
function findNearest(view, x, y, least) {
  let best = null, inside = null;
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
  if (groundTruth !== null) svg.append(line("gt-ground", groundTruth), line("gt", groundTruth));
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
