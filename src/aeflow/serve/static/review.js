// Page of a study: its controls and keys, and what follows when another slice is shown.
import { compare, compareNothing } from "./compare.js";
import { fade, on, redraw, reset, shade, show, toggleMap, zoom } from "./image.js";
import { allNormal, describe, label, takeBack } from "./labels.js";
import { go, goBack } from "./leaving.js";
import { forgets } from "./losses.js";
import { draws, drawsBy, undo } from "./regions.js";
import { $, state } from "./study.js";

on.slice = () => { compareNothing(); describe(); };

// The image alone fills the window, study after study, until the reader wants the panel back.
const FILLED = "aeflow-filled";
let filled = false;
function fill(on_) {
  filled = on_;
  try { sessionStorage.setItem(FILLED, on_ ? "yes" : ""); } catch { /* a private window keeps nothing */ }
  bare(on_);
}
function bare(on_) {
  document.body.classList.toggle("filled", on_);
  $("full").setAttribute("aria-pressed", on_);
  redraw();
}
try { if (sessionStorage.getItem(FILLED)) fill(true); } catch { /* likewise */ }

// The field is not seen while the image fills the window: the panel is there until it is left.
function type() {
  if (filled) bare(false);
  $("kind").focus();
}
$("kind").addEventListener("blur", () => { if (filled) bare(true); });

const CONTROLS = {
  mapped: toggleMap, smaller: () => zoom(1 / 1.25), larger: () => zoom(1.25), reset, full: () => fill(!filled),
};
for (const [id, act] of Object.entries(CONTROLS)) $(id).addEventListener("click", act);
if ($("slice")) $("slice").addEventListener("input", () => show(Number($("slice").value) - 1));
document.querySelectorAll("[data-opens]").forEach((button) => button.addEventListener("click", () => $(button.dataset.opens).showModal()));

const KEYS = {
  j: () => go("next"), ArrowRight: () => go("next"), k: () => go("previous"), ArrowLeft: () => go("previous"),
  l: () => go("up"), z: goBack,
  n: () => label("normal"), a: () => label("abnormal"), u: () => label("unsure"), N: allNormal,
  t: type, x: takeBack, d: () => draws(), Backspace: undo,
  m: toggleMap, "[": () => fade(-10), "]": () => fade(10), "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(1 / 1.25),
  b: () => shade(0.05, 0), v: () => shade(-0.05, 0), B: () => shade(0, -0.05), V: () => shade(0, 0.05), 0: reset,
  f: () => fill(!filled), c: compare, Escape: compareNothing, "?": () => $("help").showModal(),
  PageDown: () => show(state.at + 1), PageUp: () => show(state.at - 1),
};
const ONCE = /^[nauNxz]$|^Backspace$/; // a held key labels one study, not the next ones
const flipped = (key) => (key === key.toLowerCase() ? key.toUpperCase() : key.toLowerCase());

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || $("help").open) return;
  if (event.target.matches("#kind")) {
    if (event.key === "Enter") { event.preventDefault(); event.target.blur(); label("abnormal"); }
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (drawsBy(event)) { event.preventDefault(); return; }
  if (event.target.matches("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key)) return;
  const key = event.getModifierState("CapsLock") && event.key.length === 1 ? flipped(event.key) : event.key;
  if (!(key in KEYS)) return;
  event.preventDefault();
  if (!(event.repeat && ONCE.test(key))) forgets(KEYS[key]);
});
show(state.at);
