// The state of the page, and how it is shown: list of images, image, list of detections, numbers of an edge.

const ROW = 84; // height of an image in the list, pixels
const root = document.querySelector(".viewer"), find = (selector) => root.querySelector(selector);
const form = find(".filters"), controls = form.elements, stage = find(".stage svg"), chart = find(".chart");
const list = find(".images"), rows = list.firstElementChild, detections = find(".detections"), edges = find(".edges");

const settings = JSON.parse(find(".viewer-settings").textContent);
const images = [...root.querySelectorAll(".viewer-image")].map((block) => readImage(block.textContent));
const pixelBlocks = new Map();
for (const block of root.querySelectorAll("[data-pixels]")) pixelBlocks.set(Number(block.dataset.pixels), block);
settings.annotated = images.some((image) => image.kinds);
const PERCENTS = Array.from({ length: 50 }, (_, k) => (50 + k) / 100);
const coverages = settings.calibration ? settings.calibration.coverages : PERCENTS;

const chosen = {
  search: "", sort: "order", score: 0, own: settings.thresholds !== null, classes: settings.names.map(() => true),
  coverage: settings.coverage, guarantee: "box", width: 0,
  right: true, wrong: true, missed: true, annotated: false, ignored: false,
};
let listed = [], place = 0; // the images of the list, and which of them is shown
let view = null; // of the image that is shown, see drawStage
let selected = null, hovered = null; // { i, side }: a detection, and an edge or null
let zoomed = false; // to the selected one

// The pixels stay base64 in their block until the browser shows them.
function pixelsOf(index) {
  const block = pixelBlocks.get(index);
  return block ? `data:image/jpeg;base64,${block.textContent}` : null;
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const count = (number) => number.toLocaleString("en");

// After a change of filters: the images are listed again, and the same one stays if it is still among them.
function update() {
  const before = listed.length ? listed[place].index : 0;
  listed = listImages(images, settings, chosen);
  place = Math.max(0, listed.findIndex((one) => one.index === before));
  rows.style.height = `${listed.length * ROW}px`;
  writeFilters();
  showImage(listed.length > 0 && listed[place].index === before);
}

function writeFilters() {
  controls.scoreText.value = chosen.own ? "by class" : chosen.score.toFixed(2);
  controls.coverageText.value = `${+(100 * chosen.coverage).toFixed(2)} %`;
  for (const name of ["score", "coverage"]) {
    controls[name].setAttribute("aria-valuetext", controls[`${name}Text`].value);
  }
  const number = chosen.classes.filter(Boolean).length, all = chosen.classes.length;
  find(".classes summary").textContent = number === all ? "Classes" : `Classes: ${number} of ${all}`;
  const total = listed.reduce((sum, one) => sum + one.number, 0);
  const parts = [`${count(listed.length)} of ${count(images.length)} images`, `${count(total)} detection${total === 1 ? "" : "s"}`];
  if (settings.annotated) {
    const sum = { right: 0, wrong: 0, missed: 0 };
    for (const image of images) {
      const outcomes = outcomesOf(image, settings, chosen);
      for (const key of Object.keys(sum)) sum[key] += outcomes[key];
    }
    parts.push(`in all images ${count(sum.right)} true positives, ${count(sum.wrong)} false positives`);
    parts.push(`${count(sum.missed)} missed`);
  }
  find(".status").textContent = parts.join("; ");
}

// The image at ``place``; ``isSame``: it was shown before, and the selection stays where it is still visible.
function showImage(isSame = false) {
  hovered = null;
  stage.toggleAttribute("hidden", !listed.length);
  if (listed.length) showListed(isSame);
  else {
    view = selected = null;
    zoomed = false;
    find(".caption").textContent = "No image has what is chosen.";
    detections.replaceChildren();
  }
  find("[name=previous]").disabled = place === 0;
  find("[name=next]").disabled = place >= listed.length - 1;
  showActive();
  scrollWithin(list, place * ROW, ROW);
  drawRows();
}

function showListed(isSame) {
  const { index } = listed[place], image = images[index], shown = shownIn(image, settings, chosen);
  if (!isSame || (selected && !shown.includes(selected.i))) selected = null;
  zoomed = zoomed && selected !== null;
  view = {
    image, shown, settings, chosen, pixels: pixelsOf(index), groundTruth: groundTruthOf(image, settings, chosen),
    zoom: zoomed ? areaOfZoom(image, selected) : null,
  };
  const alone = view.pixels ? "" : " (boxes alone: the page has no space for its pixels)";
  const size = `${image.width} x ${image.height}`;
  find(".caption").textContent = `${place + 1} of ${listed.length}: ${image.name}, ${size}${alone}`;
  stage.setAttribute("aria-label", `${image.name}: ${shown.length} detections shown`);
  drawStage(stage, view);
  detections.replaceChildren(...shown.map((i) => itemOf(image, i)));
}

function itemOf(image, i) {
  const item = element("li", { role: "option", id: `viewer-detection-${i}`, "data-i": i, class: kindOf(image, i) });
  item.style.setProperty("--color", colorOf(image, i, settings));
  const outcome = image.kinds && image.kinds[i] !== RIGHT ? KINDS[image.kinds[i]] : "";
  item.append(element("b", {}, settings.names[image.labels[i]]), element("span", {}, image.scores[i].toFixed(2)));
  item.append(element("small", {}, outcome));
  return item;
}

// What is in sight when zoomed: the detection, or the middle of its chosen edge with the whole interval.
function areaOfZoom(image, { i, side }) {
  const [x0, y0, x1, y1] = boxOf(image.boxes, i);
  if (side === null) {
    const margin = Math.max(x1 - x0, y1 - y0, 16) / 2;
    return [x0 - margin, y0 - margin, x1 + margin, y1 + margin];
  }
  const interval = intervalOf(image, i, side, settings, chosen.coverage, chosen.guarantee), at = image.boxes[4 * i + side];
  const half = Math.max(10, ...(interval || []).map((end) => 2.5 * Math.abs(end - at)));
  const [x, y] = side % 2 ? [(x0 + x1) / 2, at] : [at, (y0 + y1) / 2];
  return [x - half, y - half, x + half, y + half];
}

// The detection and edge below the pointer, else the selected ones: on the image, in the list, in numbers.
function showActive() {
  const active = hovered || selected;
  find(".detail").toggleAttribute("hidden", !active);
  detections.removeAttribute("aria-activedescendant");
  for (const item of detections.children) {
    const isActive = active !== null && Number(item.dataset.i) === active.i;
    item.setAttribute("aria-selected", String(isActive));
    if (!isActive) continue;
    detections.setAttribute("aria-activedescendant", item.id);
    scrollWithin(detections, item.offsetTop, item.offsetHeight);
  }
  const zoom = find("[name=zoom]");
  zoom.disabled = !selected && !zoomed;
  zoom.setAttribute("aria-pressed", String(zoomed));
  if (!view) return;
  drawActive(stage, view, active);
  if (!active) return;
  const { image } = view, { i, side } = active;
  const better = image.calibrated_scores ? `, calibrated ${image.calibrated_scores[i].toFixed(2)}` : "";
  const outcome = image.kinds ? `, ${KINDS[image.kinds[i]]}` : "";
  const score = `score ${image.scores[i].toFixed(3)}`;
  find(".about").textContent = `${settings.names[image.labels[i]]}: ${score}${better}${outcome}`;
  for (const radio of edges.querySelectorAll("input")) radio.checked = Number(radio.value) === side;
  const facts = side === null ? factsOfBox(image, i) : factsOfEdge(image, i, side);
  const terms = Object.entries(facts).flatMap(([name, text]) => {
    const kind = ["outer", "inner", "ground"].find((one) => name.startsWith(one));
    return [element("dt", kind ? { class: `key ${kind}` } : {}, name), element("dd", {}, text)];
  });
  const table = find(".detail dl");
  table.replaceChildren(...terms);
  table.className = kindOf(image, i);
  table.style.setProperty("--color", colorOf(image, i, settings) || "var(--kind)");
  chart.setAttribute("aria-label", `Distribution. ${Object.entries(facts).map((one) => one.join(": ")).join("; ")}`);
}

function factsOfBox(image, i) {
  chart.setAttribute("hidden", "");
  const write = (box) => [...box].map((v) => v.toFixed(1)).join(", "), match = matchOf(image, i);
  const facts = { box: write(boxOf(image.boxes, i)) };
  if (image.edges) {
    const limits = limitsOf({ image, settings, chosen }, i), { outer, inner } = limits || {};
    if (limits) {
      facts["outer box"] = write(outer);
      facts["inner box"] = inner ? write(inner) : "none: intervals of opposite edges meet";
    } else facts[`interval, ${controls.coverageText.value}`] = describeInterval(null);
    facts["widest interval"] = `${widestOf(image, settings, chosen)[i].toFixed(1)} px`;
  } else facts.distribution = "none";
  if (match >= 0) facts["ground truth"] = write(boxOf(image.gt_boxes, match));
  return facts;
}

function factsOfEdge(image, i, side) {
  const interval = intervalOf(image, i, side, settings, chosen.coverage, chosen.guarantee);
  const match = matchOf(image, i), groundTruth = match < 0 ? null : image.gt_boxes[4 * match + side];
  const at = image.boxes[4 * i + side], facts = {};
  drawChart(chart, image, { i, side }, interval, groundTruth);
  facts[`${SIDES[side]} edge, ${side % 2 ? "y" : "x"}`] = `${at.toFixed(1)} px`;
  if (image.edges) {
    const std = image.edge_std[4 * i + side].toFixed(2);
    facts.edge_std = `${std} px, ${settings.calibration ? "calibrated" : "not calibrated"}`;
    facts[`interval, ${controls.coverageText.value}`] = describeInterval(interval);
  } else facts.distribution = "none";
  if (groundTruth !== null) {
    facts["ground truth"] = `${groundTruth.toFixed(1)} px, off by ${Math.abs(at - groundTruth).toFixed(1)}`;
  }
  return facts;
}

function describeInterval(interval) {
  if (!interval) return `not promised: the calibration had ${settings.calibration.num_boxes} boxes, too few`;
  const [low, high] = interval, kind = settings.calibration ? "calibrated" : "of the distribution, not calibrated";
  return `${low.toFixed(1)} to ${high.toFixed(1)} px, ${(high - low).toFixed(1)} wide, ${kind}`;
}

// The rows of the list that are in sight, and a few more.
function drawRows() {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 2);
  const last = Math.min(listed.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 2);
  const there = new Map([...rows.children].map((row) => [row.dataset.key, row])), wanted = [];
  for (let k = first; k < last; k++) {
    const row = there.get(`${k} ${listed[k].index} ${listed[k].number}`) || rowOf(k, listed[k]);
    row.setAttribute("aria-selected", String(k === place));
    wanted.push(row);
  }
  rows.replaceChildren(...wanted);
  const isInSight = first <= place && place < last;
  list.setAttribute("aria-activedescendant", isInSight ? `viewer-row-${place}` : "");
}

function rowOf(k, { index, number }) {
  const { name } = images[index], pixels = pixelsOf(index);
  const row = element("div", { role: "option", id: `viewer-row-${k}`, "data-k": k });
  row.dataset.key = `${k} ${index} ${number}`;
  row.setAttribute("aria-setsize", listed.length);
  row.setAttribute("aria-posinset", k + 1);
  row.style.top = `${k * ROW}px`;
  if (pixels) row.append(element("img", { src: pixels, alt: "", decoding: "async" }));
  row.append(element("span", { title: name }, name.split(/[\\/]/).pop()), element("small", {}, String(number)));
  return row;
}

// Scrolls a list, and not the page, as far as an item of it is out of sight.
function scrollWithin(scrolled, top, height) {
  scrolled.scrollTop = Math.min(scrolled.scrollTop, top);
  const bottom = top + height - scrolled.clientHeight;
  if (bottom > scrolled.scrollTop) scrolled.scrollTop = bottom;
}
