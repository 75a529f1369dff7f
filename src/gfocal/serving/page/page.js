// Images from files, the clipboard or a camera to the service, and its answers to the viewer.

const get = (selector) => document.querySelector(selector);
const MAX_SIDE = 1280; // pixels of what is shown, and of what a camera sends
const LEAST_SCORE = 0.05; // objects are asked for down to it, so that the slider of scores has something to show
let token = sessionStorage.getItem("token") || "";
let addImage = null; // of the viewer, once it is started

function headers() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function call(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers() });
  if (answer.status === 401) get(".token").hidden = false;
  if (!answer.ok) {
    const text = await answer.json().then((problem) => problem.detail, () => answer.statusText);
    throw Object.assign(new Error(text), { status: answer.status });
  }
  return answer.json();
}

async function describeModel() {
  const { model, names } = await call("model");
  get(".token").hidden = true;
  get(".model").textContent = `${model.name}, ${names.length} classes, ${model.precision}, ${model.engine}`;
}

async function start(packed, pixels) {
  const settings = await call("viewer-settings");
  const add = (className, text) => {
    const block = document.createElement("div");
    Object.assign(block, { className, hidden: true, textContent: text });
    get(".viewer").append(block);
    return block;
  };
  add("viewer-settings", JSON.stringify(settings));
  add("viewer-image", JSON.stringify(packed));
  if (pixels) add("viewer-pixels", pixels).dataset.pixels = "0";
  get(".empty").hidden = true;
  get(".whole-viewer").hidden = false;
  addImage = startViewer();
  return 0;
}

function encode(values) {
  const bytes = new Uint8Array(values.buffer);
  let text = "";
  for (let k = 0; k < bytes.length; k += 8192) text += String.fromCharCode(...bytes.subarray(k, k + 8192));
  return btoa(text);
}

// An image of the answer as the viewer takes it.
function pack(image) {
  const found = image.detections, flat = (key) => encode(Float32Array.from(found.flatMap((one) => one[key])));
  const packed = {
    name: image.name, width: image.width, height: image.height, boxes: flat("box"), scores: flat("score"),
    labels: encode(Uint16Array.from(found, (one) => one.label)),
  };
  if (found.length && found[0].distributions) {
    const shapes = found.map((one) => one.distributions);
    const roots = shapes.flatMap((one) => one.probabilities.flat()).map((p) => Math.round(255 * Math.sqrt(p)));
    packed.bins = shapes[0].probabilities[0].length;
    packed.edges = encode(Uint8Array.from(roots));
    packed.points = encode(Float32Array.from(shapes.flatMap((one) => one.point)));
    packed.bin_sizes = encode(Float32Array.from(shapes.flatMap((one) => one.bin_sizes)));
    packed.edge_std = flat("edge_std");
    if (found[0].calibrated_score !== null) packed.calibrated_scores = flat("calibrated_score");
  }
  return packed;
}

// What is shown of a file: upright, not too large; null where the browser cannot show it.
async function pixelsOfFile(file) {
  try {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    const factor = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * factor));
    canvas.height = Math.max(1, Math.round(bitmap.height * factor));
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    return canvas.toDataURL("image/jpeg", 0.88).split(",")[1];
  } catch {
    return null;
  }
}

async function detect(file, name, at) {
  const form = new FormData();
  form.append("images", file, name);
  const begin = performance.now();
  const answer = await call(`detect?distributions=true&score_threshold=${LEAST_SCORE}`, { method: "POST", body: form });
  showTimings(answer, performance.now() - begin);
  const packed = pack(answer.images[0]), pixels = await pixelsOfFile(file);
  return addImage ? addImage(packed, pixels, at) : start(packed, pixels);
}

function showTimings(answer, round) {
  const { queue, read, network } = answer.images[0].timings, ms = (value) => `${value.toFixed(1)} ms`;
  get(".timing").textContent = `queue ${ms(queue)}, read ${ms(read)}, network ${ms(network)}; `
    + `in all ${ms(answer.total_ms)} in the service, ${ms(round)} with the way there and back`;
}

function showProblem(error) {
  get(".problem").textContent = error ? error.message : "";
}

const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

// One after another; a service that is busy is asked again.
async function detectFiles(files) {
  showProblem(null);
  for (const file of files) {
    try {
      await detect(file, file.name || "pasted");
    } catch (error) {
      showProblem(error);
      if (error.status === 401) return;
    }
  }
}

// The camera: the next frame is sent when the answer to the last one is shown.
let stream = null;

async function runCamera() {
  const video = get("video"), button = get(".camera");
  stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: MAX_SIDE } } });
  video.srcObject = stream;
  await video.play();
  button.setAttribute("aria-pressed", "true");
  button.textContent = "Stop camera";
  const canvas = document.createElement("canvas");
  let at;
  while (stream) {
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const frame = await new Promise((take) => canvas.toBlob(take, "image/jpeg", 0.9));
    try {
      at = await detect(frame, "camera", at);
      showProblem(null);
    } catch (error) {
      showProblem(error);
      if (error.status === 401) stopCamera();
      await pause(1000);
    }
  }
}

function stopCamera() {
  const button = get(".camera");
  for (const track of stream ? stream.getTracks() : []) track.stop();
  stream = null;
  button.setAttribute("aria-pressed", "false");
  button.textContent = "Start camera";
}

get("input[type=file]").addEventListener("change", ({ target }) => {
  const files = [...target.files];
  target.value = "";
  detectFiles(files);
});
get(".camera").addEventListener("click", () => {
  if (stream) stopCamera();
  else if (!navigator.mediaDevices) showProblem(new Error("a browser gives the camera to https and this machine alone"));
  else runCamera().catch((error) => {
    stopCamera();
    showProblem(error);
  });
});
function takeToken() {
  token = get(".token input").value.trim();
  sessionStorage.setItem("token", token);
  showProblem(null);
  describeModel().catch(showProblem);
}

get(".token button").addEventListener("click", takeToken);
get(".token input").addEventListener("keydown", ({ key }) => key === "Enter" && takeToken());
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragging", kind === "dragover");
    if (kind === "drop") detectFiles([...event.dataTransfer.files]);
  });
}
document.addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData.files.length) detectFiles([...clipboardData.files]);
});
describeModel().catch(showProblem);
