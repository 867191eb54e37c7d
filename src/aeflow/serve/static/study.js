// What the page of a study holds: its images as the service knows them, which of them is shown, and what is said.

export const $ = (id) => document.getElementById(id);
export const facts = JSON.parse($("facts").textContent);
export const images = facts.images;
export const state = { at: facts.at };
for (const one of images) one.kept = one.regions.map(String); // regions that the service has; others were drawn since

export const present = () => images[state.at];
export const mine = (one = present()) => one.given.find((other) => other.reader === facts.reader);
export const fresh = (one = present()) => one.regions.filter((region) => !one.kept.includes(String(region)));

export function say(text, warned) {
  $("said").textContent = text;
  $("said").className = warned ? "warned" : "";
}
