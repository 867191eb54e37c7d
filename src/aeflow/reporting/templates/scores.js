"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const model = JSON.parse($("model").textContent);
  const FIELDS = ["row", "name", "slice", "score", "p", "outside", "error", "image", "map"];
  const lines = $("rows").textContent.split("\n").filter(Boolean);
  $("rows").remove();
  const all = lines.map((line) => Object.fromEntries(JSON.parse(line).map((value, i) => [FIELDS[i], value])));
  const scored = all.filter((one) => one.score !== null).sort((a, b) => b.score - a.score || a.row - b.row);
  scored.forEach((one, i) => { one.rank = i + 1; });
  // each step of the slider moves past one image or one held-out normal, however far apart they lie
  const steps = [...new Set([...scored.map((one) => one.score), ...model.normals, model.threshold])].sort((a, b) => a - b);
  const HEIGHT = 92, BEYOND = 6;
  const body = $("table").tBodies[0], number = new Intl.NumberFormat("en");
  const least = (1 + 1e-9) / (model.normals.length + 1);
  let threshold = model.threshold, by = "score", down = true, list = [], at = 0, first = 0, last = 0;

  const called = (one) => (one.score === null ? "refused" : one.score > threshold ? "abnormal" : "normal");
  const share = (part, whole) => `${number.format(part)} of ${number.format(whole)}${whole ? ` (${(100 * part / whole).toFixed(1)} %)` : ""}`;
  const short = (value) => (value === null ? "" : Number(value.toPrecision(4)).toString());
  const title = (one) => one.name + (one.slice ? `, slice ${one.slice}` : "");

  const meaning = (one) => (one.outside || "").split(", ").filter((name) => name in model.reasons)
    .map((name) => `${name}: ${model.reasons[name]}`).join("; ");

  function element(tag, text, kind) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }

  function picture(source, alt) {
    const made = element("img");
    made.decoding = "async";
    made.alt = alt;
    made.src = source;
    return made;
  }

  function cell(row, ...children) {
    const made = row.insertCell(), box = element("div");
    box.append(...children);
    made.append(box);
    return made;
  }

  function line(index) {
    const one = list[index], row = document.createElement("tr");
    row.setAttribute("aria-rowindex", index + 2);
    row.dataset.index = index;
    cell(row, one.rank === undefined ? "" : number.format(one.rank));
    const thumb = row.insertCell();
    if (one.image) {
      const open = element("button", undefined, "thumb");
      open.type = "button";
      open.setAttribute("aria-label", `Large view of row ${one.row}, ${title(one)}`);
      open.append(picture(one.image, ""));
      if (one.map) open.append(picture(one.map, ""));
      open.addEventListener("click", () => { select(index); enlarge(); });
      thumb.append(open);
    }
    cell(row, title(one), element("br"), element("small", `row ${number.format(one.row)}`)).title = title(one);
    cell(row, short(one.score)).className = "number";
    cell(row, one.p === null ? "" : `${one.p <= least ? "≤ " : ""}${one.p.toPrecision(2)}`).className = "number";
    cell(row, element("span", called(one), called(one)));
    const reason = one.error || (one.outside && `outside: ${one.outside}`) || "";
    cell(row, element("span", reason, "warned")).title = meaning(one) || reason;
    row.addEventListener("click", () => select(index));
    if (index === at) row.setAttribute("aria-current", "true");
    return row;
  }

  function gap(rows) {
    const row = element("tr", undefined, "gap");
    row.setAttribute("aria-hidden", "true");
    row.insertCell().colSpan = 7;
    row.cells[0].style.height = `${rows * HEIGHT}px`;
    return row;
  }

  // only the rows in sight, and a few beyond, are in the document
  function render(anew) {
    const top = -body.getBoundingClientRect().top;
    const from = Math.max(0, Math.min(list.length, Math.floor(top / HEIGHT) - BEYOND));
    const to = Math.min(list.length, Math.ceil((top + innerHeight) / HEIGHT) + BEYOND);
    if (!anew && from === first && to === last) return;
    const focused = document.activeElement.closest?.("tbody tr")?.dataset.index;
    const known = new Map(anew ? [] : [...body.rows].map((row) => [Number(row.dataset.index), row]));
    [first, last] = [from, to];
    const rows = [];
    for (let i = from; i < to; i++) rows.push(known.get(i) || line(i));
    body.replaceChildren(gap(from), ...rows, gap(list.length - to));
    if (focused !== undefined) body.querySelector(`tr[data-index="${focused}"] .thumb`)?.focus({ preventScroll: true });
  }

  function arrange() {
    const chosen = list[at], wanted = $("find").value.trim().toLowerCase(), show = $("show").value;
    const fits = (one) =>
      (show === "all" || show === called(one) || (show === "outside" && one.outside)) &&
      (!wanted || `${title(one)} row ${one.row} ${one.outside || ""} ${one.error || ""}`.toLowerCase().includes(wanted));
    const sign = down ? -1 : 1;
    list = all.filter(fits).sort((a, b) => {
      if ((a.score === null) !== (b.score === null)) return a.score === null ? 1 : -1;
      return sign * (a[by] - b[by]) || (b.score ?? 0) - (a.score ?? 0) || a.row - b.row;
    });
    at = Math.max(0, list.indexOf(chosen));
    $("table").setAttribute("aria-rowcount", list.length + 1);
    $("shown").textContent = list.length === all.length ? "" : `${share(list.length, all.length)} shown`;
    render(true);
  }

  function count() {
    const abnormal = scored.filter((one) => one.score > threshold).length;
    const normals = model.normals.filter((score) => score > threshold).length;
    const moved = scored.filter((one) => (one.score > threshold) !== (one.score > model.threshold)).length;
    const parts = [
      `${share(abnormal, scored.length)} called abnormal`,
      `expected of new normals: ${(100 * (normals + 1) / (model.normals.length + 1)).toFixed(1)} %, seen among the held-out ones: ${share(normals, model.normals.length)}`,
      `refused: ${number.format(all.length - scored.length)}`,
    ];
    if (threshold !== model.threshold) parts.push(`other verdict than at ${short(model.threshold)}: ${number.format(moved)}`);
    $("counts").textContent = parts.join("  ·  ");
  }

  function set(value) {
    threshold = value;
    let low = 0, high = steps.length - 1; // the last step that is not above it
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (steps[middle] > value) high = middle - 1; else low = middle;
    }
    $("slider").value = low;
    $("slider").setAttribute("aria-valuetext", short(value));
    if (document.activeElement !== $("typed")) $("typed").value = short(value);
    count();
    arrange();
    if ($("large").open) enlarge();
  }

  function select(index) {
    if (!list.length) return;
    body.querySelector("[aria-current]")?.removeAttribute("aria-current");
    at = Math.max(0, Math.min(list.length - 1, index));
    const sticky = getComputedStyle(document.querySelector(".tools")).position === "sticky";
    const below = sticky ? document.querySelector(".tools").offsetHeight + 4 : 0;
    const top = body.getBoundingClientRect().top + at * HEIGHT;
    if (top < below) scrollBy(0, top - below);
    else if (top + HEIGHT > innerHeight) scrollBy(0, top + HEIGHT - innerHeight);
    render(false);
    const row = body.querySelector(`tr[data-index="${at}"]`);
    row?.setAttribute("aria-current", "true");
    if (!$("large").open) row?.querySelector(".thumb")?.focus({ preventScroll: true });
  }

  function enlarge() {
    const one = list[at];
    if (!one) return;
    $("name").textContent = `${title(one)}, row ${number.format(one.row)}`;
    for (const layer of ["image", "map"]) {
      $(layer).hidden = !one[layer];
      $(layer).src = one[layer] || "data:,";
    }
    $("image").alt = one.image ? "The image as the model sees it" : "";
    $("facts").textContent = one.error
      ? `refused: ${one.error}`
      : [`score ${short(one.score)}`, `threshold ${short(threshold)}`, `p ${one.p <= least ? "≤" : "="} ${one.p.toPrecision(2)}${one.p <= least ? ` (the smallest that ${number.format(model.normals.length)} held-out normals allow)` : ""}`, `called ${called(one)}`,
         `rank ${number.format(one.rank)} of ${number.format(scored.length)}`, ...(one.outside ? [`outside: ${meaning(one) || one.outside}`] : [])].join("  ·  ");
    if (!$("large").open) $("large").showModal();
  }

  function step(by) {
    select(at + by);
    if ($("large").open) enlarge();
  }

  function mapped(on) {
    document.body.classList.toggle("no-maps", !on);
    $("maps").checked = on;
    $("toggle").setAttribute("aria-pressed", on);
  }

  document.querySelectorAll("thead button").forEach((button) => button.addEventListener("click", () => {
    down = by === button.dataset.by ? !down : button.dataset.by === "score";
    by = button.dataset.by;
    document.querySelectorAll("thead [aria-sort]").forEach((head) =>
      head.setAttribute("aria-sort", head.contains(button) ? (down ? "descending" : "ascending") : "none"));
    arrange();
  }));
  $("slider").max = steps.length - 1;
  $("slider").addEventListener("input", () => set(steps[Number($("slider").value)]));
  $("typed").addEventListener("input", () => { if (Number.isFinite($("typed").valueAsNumber)) set($("typed").valueAsNumber); });
  $("reset").addEventListener("click", () => set(model.threshold));
  $("find").addEventListener("input", arrange);
  $("show").addEventListener("input", arrange);
  $("maps").addEventListener("input", () => mapped($("maps").checked));
  $("toggle").addEventListener("click", () => mapped(!$("maps").checked));
  $("ask").addEventListener("click", () => $("help").showModal());
  $("next").addEventListener("click", () => step(1));
  $("previous").addEventListener("click", () => step(-1));
  $("large").addEventListener("close", () => select(at));
  addEventListener("scroll", () => render(false), { passive: true });
  addEventListener("resize", () => render(false));
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || $("help").open) return;
    const typing = event.target.matches?.("input, select");
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const letter = event.key.length === 1;
    if (letter && !$("single").checked) return;
    const keys = {
      ArrowDown: () => step(1), ArrowRight: () => step(1), j: () => step(1),
      ArrowUp: () => step(-1), ArrowLeft: () => step(-1), k: () => step(-1),
      m: () => mapped(!$("maps").checked),
      "/": () => { if (!$("large").open) $("find").focus(); },
      "?": () => $("help").showModal(),
      Enter: () => enlarge(),
    };
    if (!(event.key in keys) || (event.key === "Enter" && event.target.closest?.("button"))) return;
    event.preventDefault();
    keys[event.key]();
  });
  $("of").textContent = ` of ${number.format(all.length)} ${all.length === 1 ? "image" : "images"}`;
  set(model.threshold);
})();
