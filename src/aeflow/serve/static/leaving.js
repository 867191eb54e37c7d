// Ways from a study to another page: none of them loses what is not kept, nor ends at a service that does not answer.
import { stops, unkept } from "./losses.js";
import { $, facts, images, say } from "./study.js";

const WAYS = ["previous", "up", "next"];
const back = $("last").querySelector("a");
let leaves = false;

export async function leave(address) {
  const answers = await fetch("/health").catch(() => null);
  if (!answers) { say("The service does not answer: you stay here. Try again.", true); return; }
  leaves = true;
  location.assign(address);
}

export function go(way) {
  if (stops(way, unkept(), ", or a to keep it as abnormal")) return;
  if ($(way)) leave($(way).href);
  else if (way === "next") end("");
  else say("This is the first one of its list.");
}

export function goBack() {
  if (!back.hidden && !stops("back", unkept(), ", or a to keep it as abnormal")) leave(back.href);
}

// After a label: the study that follows, from which the way back to this one is said.
export function goOn(label) {
  try { sessionStorage.setItem("aeflow-last", JSON.stringify({ address: location.href, label, at: Date.now() })); } catch { /* a private window keeps nothing */ }
  if ($("next")) leave($("next").href);
  else end(`kept: ${label}. `);
}

// A key came while the page of the next study was on its way: that page says so.
export function slipped() {
  try {
    const last = JSON.parse(sessionStorage.getItem("aeflow-last"));
    if (last) sessionStorage.setItem("aeflow-last", JSON.stringify({ ...last, slipped: true }));
  } catch { /* likewise */ }
}

// No other study follows: what is left, and where.
function end(before) {
  const left = facts.left - (images.every((one) => one.given.length) && !facts.labelled ? 1 : 0);
  say(`${before}No other follows here; ${left > 0 ? `${left} not labelled remain: ` : "every study is labelled."}`);
  if (left <= 0) return;
  const link = document.createElement("a");
  link.href = "/?label=none";
  link.textContent = "show them";
  $("said").append(link);
}

// The study that was labelled before this one: said here, since it may have left the list.
export let lastLabel = 0; // when
try {
  const last = JSON.parse(sessionStorage.getItem("aeflow-last"));
  sessionStorage.removeItem("aeflow-last");
  if (last && last.address !== location.href) {
    lastLabel = last.at;
    back.href = last.address;
    back.textContent = `before: ${last.label}, kept${last.slipped ? "; the key after it came too soon and was not" : ""} (z: back to it)`;
    back.hidden = false;
  }
} catch { /* likewise */ }

// The list has its focus on the study that was seen last.
try { sessionStorage.setItem("aeflow-seen", location.pathname); } catch { /* likewise */ }

const plain = (event) => !(event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
for (const way of WAYS) {
  if ($(way)) $(way).addEventListener("click", (event) => { if (plain(event)) { event.preventDefault(); go(way); } });
}
back.addEventListener("click", (event) => { if (plain(event)) { event.preventDefault(); goBack(); } });
addEventListener("beforeunload", (event) => { if (!leaves && unkept().length) event.preventDefault(); });
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
