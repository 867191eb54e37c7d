// Labels: kept one after another; none replaces what came from elsewhere, or takes a region with it, without a word.
import { isShown, redraw, show } from "./image.js";
import { goOn, lastLabel, slipped } from "./leaving.js";
import { replaced, stops, warn } from "./losses.js";
import { $, facts, fresh, images, mine, present, say, state } from "./study.js";

const SLIP = 500; // milliseconds after a label in which another key is meant for the same image
let labelled = lastLabel; // when
let turn = Promise.resolve(); // of what is being kept: one label follows the other

class Changed extends Error {}

function keep(one, label) {
  turn = turn.catch(() => {}).then(() => send(one, label)); // whoever asked for the one before was told of its failure
  return turn;
}

async function send(one, label) {
  const abnormal = label === "abnormal", given = mine(one);
  const body = { label, kind: abnormal ? $("kind").value : "", regions: abnormal ? one.regions : [], follows: given ? given.number : 0 };
  const sent = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(`/api/images/${one.id}/label`, sent).catch(() => null);
  if (!answer) throw new Error("the service does not answer");
  const found = await answer.json().catch(() => ({}));
  if (answer.status === 409) { takeOver(one, found.now); throw new Changed(inWords(found.now, one)); }
  if (!answer.ok) throw new Error(JSON.stringify(found.detail || answer.status));
  one.regions = found.regions;
  if (abnormal) $("kind").value = found.kind || ""; // as the service writes it
  took(one, found);
}

// What the service has of this reader is what the page shows from now on.
function took(one, found) {
  one.kept = found ? found.regions.map(String) : [];
  $("kind").dataset.filled = (found && found.kind) || "";
  one.given = one.given.filter((other) => other.reader !== facts.reader);
  if (found && found.label !== "none") one.given.push({ ...found, number: found.id });
}

// It was labelled elsewhere meanwhile; what was drawn here stays, beside what is there.
function takeOver(one, found) {
  const drawn = fresh(one), untouched = $("kind").value === $("kind").dataset.filled;
  one.regions = [...(found ? found.regions : []), ...drawn];
  took(one, found);
  if (untouched) $("kind").value = $("kind").dataset.filled;
}

function inWords(found, one) {
  if (!found) return "taken back";
  const number = one.kept.length;
  return `${found.label}${found.kind ? ` (${found.kind})` : ""}${number ? `, ${number} region${number > 1 ? "s" : ""}` : ""}`;
}

function failed(error, key) {
  describe();
  redraw();
  if (error instanceof Changed) warn(key, `Changed meanwhile: ${error.message}. Press again to replace it`);
  else say(`not kept: ${error.message}`, true);
}

export async function kept(given) {
  say("being kept");
  try {
    await keep(present(), given);
  } catch (error) {
    failed(error, given);
    return false;
  }
  describe();
  redraw();
  say(`kept: ${given}`);
  return true;
}

export async function label(given) {
  if (!isShown()) { say("Nothing was kept: the image is not shown", true); return; }
  if (Date.now() - labelled < SLIP) {
    slipped();
    say(`Nothing was kept: too soon after the last label. To correct that one: ${labelled === lastLabel ? "z" : "PageUp"}`, true);
    return;
  }
  if (given !== "abnormal" && stops(given, replaced(), ", or a to keep it as abnormal")) return;
  if (!(await kept(given))) return;
  if (given !== "abnormal") $("kind").value = "";
  if (!$("onwards").checked) return;
  const another = state.at + 1 < images.length;
  if (another || $("next")) labelled = Date.now();
  if (another) show(state.at + 1);
  else goOn(given);
}

export async function takeBack() {
  if (!mine() || stops("none", replaced())) return;
  if (!(await kept("none"))) return;
  $("kind").value = "";
  say("taken back");
}

export async function allNormal() {
  if (images.length === 1) { say("This study has one image: press n without Shift", true); return; }
  const abnormal = images.filter((one) => fresh(one).length || (mine(one) && mine(one).label === "abnormal")).length;
  if (stops("all", abnormal ? [`what is drawn or labelled abnormal on ${abnormal} of the images`] : [])) return;
  try {
    for (const [i, one] of images.entries()) {
      await keep(one, "normal");
      say(`kept: normal, ${i + 1} of ${images.length}`);
    }
  } catch (error) {
    failed(error, "all");
    return;
  }
  $("kind").value = "";
  describe();
  redraw();
  if ($("onwards").checked) goOn("normal");
}

export function describe() {
  const one = present(), last = one.given[one.given.length - 1];
  $("called").textContent = `Called ${one.verdict}`;
  $("called").className = one.verdict;
  $("p").textContent = one.p;
  $("score").textContent = Number(one.score.toPrecision(3));
  $("file").textContent = one.file;
  $("outside").hidden = !one.outside;
  $("outside").querySelector("span").textContent = one.outside;
  document.querySelectorAll("[data-strip]").forEach((strip) => { strip.hidden = Number(strip.dataset.strip) !== state.at; });
  document.querySelectorAll("[data-label]").forEach((button) => button.setAttribute("aria-pressed", Boolean(last) && button.dataset.label === last.label));
  // a kind goes on to the next slice, unless that has one of its own
  if (last && last.kind && $("kind").value === $("kind").dataset.filled) $("kind").value = $("kind").dataset.filled = last.kind;
  const drawn = one.regions.length;
  $("drawn").textContent = drawn ? `${drawn} region${drawn > 1 ? "s" : ""} drawn` : "No region drawn";
  $("undo").disabled = !drawn;
  $("take-back").hidden = !mine();
  const who = (other) => (other.reader === facts.reader ? "you" : other.reader);
  say(one.given.map((other) => `${who(other)}: ${other.label}${other.kind ? ` (${other.kind})` : ""}`).join(", "));
  if ($("slice")) { $("slice").value = state.at + 1; $("slice-number").textContent = state.at + 1; }
}

$("take-back").addEventListener("click", takeBack);
if ($("all-normal")) $("all-normal").addEventListener("click", allNormal);
document.querySelectorAll("[data-label]").forEach((button) => button.addEventListener("click", () => label(button.dataset.label)));
