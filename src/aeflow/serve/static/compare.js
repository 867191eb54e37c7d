// What stands beside the image, as large: its mirror image under the same window, then the train normals most like it.
import { redraw } from "./image.js";
import { $, present } from "./study.js";

const beside = $("beside"), mirror = $("mirror"), normals = $("normals"), withNormals = normals.dataset.lacks === "";
let at = -1; // -1: nothing; 0: the mirror image; 1 and on: a normal
let asked = null; // which image's normals are there

const figures = () => [...normals.querySelectorAll("figure")];

export function compare() {
  turn(at + 1);
  if (withNormals && asked !== present().id) look();
}

export function compareNothing() {
  turn(-1);
  asked = null;
  normals.replaceChildren();
}

async function look() {
  asked = present().id;
  const wanted = asked;
  const failed = () => {}; // then there are no figures
  await htmx.ajax("GET", `/images/${wanted}/nearest`, { target: "#normals", swap: "innerHTML" }).catch(failed);
  if (wanted !== asked) return;
  if (!figures().length) {
    asked = null; // the next press tries again
    $("beside-words").textContent = "The train normals could not be looked for";
    return;
  }
  turn(at);
}

function turn(to) {
  const found = figures(), waits = withNormals && !found.length;
  at = to > (waits ? 1 : found.length) ? -1 : to;
  beside.hidden = at === -1;
  mirror.hidden = at !== 0;
  found.forEach((figure, i) => { figure.hidden = at !== i + 1; });
  $("compare").setAttribute("aria-pressed", at !== -1);
  if (at === 0) $("beside-words").textContent = `Mirror image, left for right. c: ${withNormals ? "the train normals most like it" : "no more"}`;
  else if (at > 0 && waits) $("beside-words").textContent = "Looking for the train normals most like it; the first time takes some seconds";
  else if (at > 0) $("beside-words").textContent = `${found[at - 1].dataset.words}. c: ${at < found.length ? "the next" : "no more"}`;
  redraw();
}

$("compare").addEventListener("click", compare);
