// The image on its canvas: loaded, drawn with window and level under its map, moved and zoomed by pointers.
import { $, images, present, state } from "./study.js";

export const canvas = $("canvas");
export const on = { slice() {}, draw() {}, down() {}, move() {} }; // what others do then; true from down or move: it was for them
const pen = canvas.getContext("2d"), mirror = $("mirror"), KEPT = 16;
const view = {}, AT_FIRST = { zoom: 1, x: 0, y: 0, level: 0.5, window: 1 }, OPACITY = $("opacity").value;
const loaded = new Map(); // of an image's place: a promise of its pixels and map
let shown = null; // what is on the canvas: pixels, map, and the picture of both window and level
let frame = 0;
Object.assign(view, AT_FIRST);

// ---- loading ----
async function load(index) {
  const id = images[index].id;
  const [pixels, map] = await Promise.all([fetch(`/api/images/${id}/pixels`), fetch(`/api/images/${id}/map.png`)]);
  if (!pixels.ok) throw new Error((await pixels.json()).detail);
  const size = (name) => Number(pixels.headers.get(`x-${name}`)), bytes = await pixels.arrayBuffer();
  const channels = size("channels");
  return {
    height: size("height"), width: size("width"), channels,
    values: channels === 1 ? new Uint16Array(bytes) : new Uint8Array(bytes),
    map: await createImageBitmap(await map.blob()),
    picture: new OffscreenCanvas(size("width"), size("height")), drawn: "",
  };
}

function fetched(index) {
  if (!loaded.has(index)) {
    loaded.set(index, load(index));
    loaded.get(index).catch(() => loaded.delete(index));
    if (loaded.size > KEPT) loaded.delete(loaded.keys().next().value);
  }
  return loaded.get(index);
}

export async function show(index) {
  state.at = between(index, 0, images.length - 1);
  on.slice();
  $("wait").hidden = shown !== null;
  const wanted = state.at;
  try {
    const found = await fetched(wanted);
    if (wanted !== state.at) return;
    shown = found;
    $("wait").hidden = true;
    canvas.dataset.shown = present().id;
    redraw();
    for (const beside of [wanted + 1, wanted - 1]) if (images[beside]) fetched(beside).catch(() => {});
  } catch (error) {
    if (wanted !== state.at) return;
    shown = null;
    delete canvas.dataset.shown;
    redraw();
    $("wait").hidden = false;
    $("wait").textContent = `cannot be shown: ${error.message}`;
  }
}

export const isShown = () => canvas.dataset.shown === present().id;

// ---- drawing ----
function picture() {
  const key = `${view.level} ${view.window}`;
  if (shown.drawn === key) return shown.picture;
  const { width, height, channels, values } = shown, made = new ImageData(width, height), out = made.data;
  const top = channels === 1 ? 65535 : 255, low = view.level - view.window / 2, scale = 255 / view.window;
  const table = new Uint8ClampedArray(top + 1);
  for (let i = 0; i <= top; i++) table[i] = (i / top - low) * scale;
  for (let i = 0, j = 0; i < width * height; i++, j += 4) {
    out[j] = table[values[channels * i]];
    out[j + 1] = channels === 1 ? out[j] : table[values[3 * i + 1]];
    out[j + 2] = channels === 1 ? out[j] : table[values[3 * i + 2]];
    out[j + 3] = 255;
  }
  shown.picture.getContext("2d").putImageData(made, 0, 0);
  shown.drawn = key;
  return shown.picture;
}

function place() {
  const fit = Math.min(canvas.width / shown.width, canvas.height / shown.height) * view.zoom;
  const width = shown.width * fit, height = shown.height * fit;
  return { fit, width, height, left: (canvas.width - width) / 2 + view.x, top: (canvas.height - height) / 2 + view.y };
}

export function redraw() {
  if (frame) return;
  frame = requestAnimationFrame(() => { frame = 0; draw(); });
}

function draw() {
  const ratio = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(box.width * ratio));
  canvas.height = Math.max(1, Math.round(box.height * ratio));
  const opacity = $("mapped").getAttribute("aria-pressed") === "true" ? Number($("opacity").value) / 100 : 0;
  $("scale").hidden = !opacity;
  if (!shown) return;
  const at = place(), { left, top, width, height, fit } = at;
  paint(pen, at);
  if (!mirror.hidden) {
    Object.assign(mirror, { width: canvas.width, height: canvas.height }); // the style sheet turns it left for right
    paint(mirror.getContext("2d"), at);
  }
  if (opacity) {
    pen.imageSmoothingEnabled = true;
    pen.globalAlpha = opacity;
    pen.drawImage(shown.map, left, top, width, height);
    pen.globalAlpha = 1;
  }
  pen.lineWidth = 2 * ratio;
  on.draw({ pen, ratio, ...at });
  const shades = `window ${Math.round(100 * view.window)} %, level ${Math.round(100 * view.level)} %`;
  const slices = images.length > 1 ? `\nslice ${state.at + 1} / ${images.length}` : "";
  $("readout").textContent = `${shown.width} x ${shown.height}, zoom ${(fit / ratio).toFixed(2)}\n${shades}${slices}`;
}

function paint(with_, { left, top, width, height, fit }) {
  with_.imageSmoothingEnabled = fit < 4;
  with_.imageSmoothingQuality = "high";
  with_.drawImage(picture(), left, top, width, height);
}

// ---- view ----
export const between = (value, low, high) => Math.max(low, Math.min(high, value));

export function inImage(event) {
  const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width, { left, top, width, height } = place();
  return {
    x: between(((event.clientX - box.left) * ratio - left) / width, 0, 1),
    y: between(((event.clientY - box.top) * ratio - top) / height, 0, 1),
  };
}

export function zoom(by, event) {
  const before = view.zoom, box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
  view.zoom = between(view.zoom * by, 0.5, 20);
  const x = event ? (event.clientX - box.left) * ratio - canvas.width / 2 : 0;
  const y = event ? (event.clientY - box.top) * ratio - canvas.height / 2 : 0;
  const grown = view.zoom / before;
  view.x = x - (x - view.x) * grown;
  view.y = y - (y - view.y) * grown;
  redraw();
}

export function shade(window_, level) {
  view.window = between(view.window + window_, 0.02, 2);
  view.level = between(view.level + level, 0, 1);
  redraw();
}

export function fade(by) {
  $("opacity").value = Number($("opacity").value) + by;
  remember();
  redraw();
}

export function toggleMap() {
  $("mapped").setAttribute("aria-pressed", $("mapped").getAttribute("aria-pressed") !== "true");
  remember();
  redraw();
}

// All as it was before anybody touched it, the map, too.
export function reset() {
  Object.assign(view, AT_FIRST);
  $("opacity").value = OPACITY;
  $("mapped").setAttribute("aria-pressed", "true");
  remember();
  redraw();
}

// ---- from study to study ----
export function remember() {
  const kept = { opacity: $("opacity").value, onwards: $("onwards").checked, mapped: $("mapped").getAttribute("aria-pressed") };
  try { localStorage.setItem("aeflow-view", JSON.stringify(kept)); } catch { /* a private window keeps nothing */ }
}
try {
  const kept = JSON.parse(localStorage.getItem("aeflow-view"));
  if (kept) { $("opacity").value = kept.opacity; $("onwards").checked = kept.onwards; $("mapped").setAttribute("aria-pressed", kept.mapped || "true"); }
} catch { /* likewise */ }

// ---- pointers ----
const pointers = new Map();
canvas.addEventListener("pointerdown", (event) => {
  if (!shown) return;
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
  on.down(event);
});
canvas.addEventListener("pointermove", (event) => {
  if (!shown || on.move(event)) return;
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY, ratio = devicePixelRatio || 1;
  if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, one]) => one);
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
    zoom(apart(event) / apart(before));
    view.x += (dx * ratio) / 2; view.y += (dy * ratio) / 2;
  } else if (event.shiftKey || event.buttons & 6) { view.x += dx * ratio; view.y += dy * ratio; redraw(); }
  else shade(dx / 400, -dy / 400);
  pointers.set(event.pointerId, event);
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (event.ctrlKey || images.length === 1) zoom(Math.exp(-event.deltaY / 400), event);
  else show(state.at + Math.sign(event.deltaY));
}, { passive: false });
$("opacity").addEventListener("input", () => { remember(); redraw(); });
$("onwards").addEventListener("change", remember);
new ResizeObserver(redraw).observe(canvas);
