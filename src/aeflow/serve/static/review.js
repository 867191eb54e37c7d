// Page of a study: the image on a canvas with window and level, its map, regions drawn on it, labels, keys.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const facts = JSON.parse($("facts").textContent), images = facts.images;
  const canvas = $("canvas"), pen = canvas.getContext("2d"), KEPT = 16;
  const view = { zoom: 1, x: 0, y: 0, level: 0.5, window: 1 };
  const loaded = new Map(); // of an image's place: a promise of its pixels and map
  let at = $("slice") ? Number($("slice").value) - 1 : images.findIndex((one, i) => !document.querySelector(`[data-strip="${i}"]`).hidden);
  let shown = null; // what is on the canvas: pixels, map, and the picture of both window and level
  let drawing = false, corner = null, cursor = { x: 0.5, y: 0.5 }, frame = 0;
  let warned = ""; // what a key would lose, and was warned of: pressed again it does

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

  async function show(index) {
    at = Math.max(0, Math.min(images.length - 1, index));
    describe();
    $("wait").hidden = shown !== null;
    const wanted = at;
    try {
      const found = await fetched(wanted);
      if (wanted !== at) return;
      shown = found;
      $("wait").hidden = true;
      canvas.dataset.shown = images[at].id;
      redraw();
      for (const beside of [at + 1, at - 1]) if (images[beside]) fetched(beside).catch(() => {});
    } catch (error) {
      $("wait").hidden = false;
      $("wait").textContent = `cannot be shown: ${error.message}`;
    }
  }

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

  function redraw() {
    if (frame) return;
    frame = requestAnimationFrame(() => { frame = 0; draw(); });
  }

  function draw() {
    const ratio = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    canvas.width = Math.max(1, Math.round(box.width * ratio));
    canvas.height = Math.max(1, Math.round(box.height * ratio));
    if (!shown) return;
    const { left, top, width, height, fit } = place();
    pen.imageSmoothingEnabled = fit < 4;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(picture(), left, top, width, height);
    const opacity = $("mapped").getAttribute("aria-pressed") === "true" ? Number($("opacity").value) / 100 : 0;
    $("scale").hidden = !opacity;
    if (opacity) {
      pen.imageSmoothingEnabled = true;
      pen.globalAlpha = opacity;
      pen.drawImage(shown.map, left, top, width, height);
      pen.globalAlpha = 1;
    }
    pen.lineWidth = 2 * ratio;
    for (const region of images[at].regions) box_(region, "#6fe3ff");
    if (drawing) {
      if (corner) box_(ordered(corner, cursor), "#ffffff");
      cross();
    }
    const shades = `window ${Math.round(100 * view.window)} %, level ${Math.round(100 * view.level)} %`;
    const slices = images.length > 1 ? `\nslice ${at + 1} / ${images.length}` : "";
    $("readout").textContent = `${shown.width} x ${shown.height}, zoom ${(fit / ratio).toFixed(2)}\n${shades}${slices}`;

    function box_([x0, y0, x1, y1], colour) {
      pen.strokeStyle = colour;
      pen.strokeRect(left + x0 * width, top + y0 * height, (x1 - x0) * width, (y1 - y0) * height);
    }
    function cross() {
      const x = left + cursor.x * width, y = top + cursor.y * height, arm = 14 * ratio;
      pen.strokeStyle = "#ffffff";
      pen.beginPath();
      pen.moveTo(x - arm, y); pen.lineTo(x + arm, y); pen.moveTo(x, y - arm); pen.lineTo(x, y + arm);
      pen.stroke();
    }
  }

  const flipped = (key) => (key === key.toLowerCase() ? key.toUpperCase() : key.toLowerCase());
  const ordered = (a, b) => [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];
  const between = (value, low, high) => Math.max(low, Math.min(high, value));

  function inImage(event) {
    const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width, { left, top, width, height } = place();
    return {
      x: between(((event.clientX - box.left) * ratio - left) / width, 0, 1),
      y: between(((event.clientY - box.top) * ratio - top) / height, 0, 1),
    };
  }

  function zoom(by, event) {
    const before = view.zoom, box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
    view.zoom = between(view.zoom * by, 0.5, 20);
    const x = event ? (event.clientX - box.left) * ratio - canvas.width / 2 : 0;
    const y = event ? (event.clientY - box.top) * ratio - canvas.height / 2 : 0;
    const grown = view.zoom / before;
    view.x = x - (x - view.x) * grown;
    view.y = y - (y - view.y) * grown;
    redraw();
  }

  function shade(window_, level) {
    view.window = between(view.window + window_, 0.02, 2);
    view.level = between(view.level + level, 0, 1);
    redraw();
  }

  function reset() {
    Object.assign(view, { zoom: 1, x: 0, y: 0, level: 0.5, window: 1 });
    redraw();
  }

  // ---- pointers ----
  const pointers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    if (!shown) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    if (drawing && event.button === 0) { cursor = inImage(event); mark(); }
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!shown) return;
    if (drawing) { cursor = inImage(event); redraw(); return; }
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
    else show(at + Math.sign(event.deltaY));
  }, { passive: false });

  // ---- regions ----
  function draws(on) {
    drawing = on;
    corner = null;
    $("draw").setAttribute("aria-pressed", on);
    say(on ? "First corner: click, or move with the arrows and press Enter" : "");
    redraw();
  }

  function mark() {
    if (!corner) {
      corner = { ...cursor };
      say("Second corner: click, or move with the arrows and press Enter");
    } else {
      const region = ordered(corner, cursor);
      draws(false);
      if (region[2] - region[0] > 0.002 && region[3] - region[1] > 0.002) changed(() => images[at].regions.push(region));
      else say("Too small: draw it again", true);
    }
    redraw();
  }

  function undo() {
    if (images[at].regions.length) changed(() => images[at].regions.pop());
  }

  // What is drawn on an image that is abnormal already is kept at once.
  async function changed(change) {
    const one = images[at];
    change();
    describe();
    redraw();
    one.unkept = one.regions.length > 0;
    if (mine() && mine().label === "abnormal") await kept("abnormal");
    else if (one.unkept) say("Press a to label it abnormal with what is drawn");
  }

  // ---- labels ----
  function say(text, warned) {
    $("said").textContent = text;
    $("said").className = warned ? "warned" : "";
  }

  async function keep(index, label) {
    const abnormal = label === "abnormal", one = images[index];
    const body = { label, kind: abnormal ? $("kind").value : "", regions: abnormal ? one.regions : [] };
    const sent = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const answer = await fetch(`/api/images/${one.id}/label`, sent).catch(() => null);
    if (!answer || !answer.ok) {
      const reason = answer ? JSON.stringify((await answer.json().catch(() => ({}))).detail || answer.status) : "the service does not answer";
      throw new Error(reason);
    }
    const kept = await answer.json();
    if (!abnormal) one.regions = [];
    one.unkept = false;
    $("kind").dataset.filled = body.kind;
    one.given = one.given.filter((other) => other.reader !== kept.reader);
    if (label !== "none") one.given.push({ reader: kept.reader, label, kind: kept.kind });
  }

  const mine = () => images[at].given.find((one) => one.reader === facts.reader);

  // True if something that is not kept would be lost: says what, and lets the same key do it the second time.
  function stops(key) {
    const one = images[at], given = mine();
    const typed = $("kind").value.trim(), replaced = key === "label" && given && given.label === "abnormal";
    const lost = [];
    if (one.unkept || (replaced && one.regions.length)) lost.push(one.regions.length > 1 ? "the regions" : "the region");
    if (typed && (typed !== $("kind").dataset.filled || (replaced && given.kind))) lost.push(`the kind "${typed}"`);
    if (!lost.length || warned === key) { warned = ""; return false; }
    warned = key;
    say(`This loses ${lost.join(" and ")}: press the key again to go on, or a to keep it as abnormal`, true);
    return true;
  }

  async function kept(given) {
    say("being kept");
    try {
      await keep(at, given);
    } catch (error) {
      say(`not kept: ${error.message}`, true);
      return false;
    }
    warned = "";
    describe();
    redraw();
    say(`kept: ${given}`);
    return true;
  }

  async function label(given) {
    if (given !== "abnormal" && stops("label")) return;
    if (given !== "abnormal") $("kind").value = "";
    if (!(await kept(given)) || !$("onwards").checked) return;
    if (at + 1 < images.length) { show(at + 1); return; }
    try { sessionStorage.setItem("aeflow-last", JSON.stringify({ address: location.href, label: given })); } catch { /* a private window keeps nothing */ }
    if ($("next")) location.assign($("next").href);
    else end(`kept: ${given}. `);
  }

  async function takeBack() {
    if (!mine()) return;
    if (await kept("none")) say("taken back");
  }

  // No other study follows: what is left, and where.
  function end(before) {
    const left = Number($("last").dataset.left) - (images.every((one) => one.given.length) && !facts.labelled ? 1 : 0);
    say(`${before}No other follows here; ${left > 0 ? `${left} not labelled remain: ` : "every study is labelled."}`);
    if (left <= 0) return;
    const link = document.createElement("a");
    link.href = "/?label=none";
    link.textContent = "show them";
    $("said").append(link);
  }

  async function allNormal() {
    try {
      for (let i = 0; i < images.length; i++) {
        await keep(i, "normal");
        say(`kept: normal, ${i + 1} of ${images.length}`);
      }
    } catch (error) {
      say(`not kept: ${error.message}`, true);
      return;
    }
    describe();
    if ($("onwards").checked) go("next");
  }

  function go(id) {
    if (stops(id)) return;
    if ($(id)) location.assign($(id).href);
    else if (id === "next") end("");
    else say("This is the first one of its list.");
  }

  // The study that was labelled before this one: said here, since it may have left the list.
  const link = $("last").querySelector("a");
  try {
    const last = JSON.parse(sessionStorage.getItem("aeflow-last"));
    sessionStorage.removeItem("aeflow-last");
    if (last && last.address !== location.href) {
      link.href = last.address;
      link.textContent = `before: ${last.label}, kept (z: back to it)`;
      link.hidden = false;
    }
  } catch { /* a private window keeps nothing */ }

  function describe() {
    const one = images[at], last = one.given[one.given.length - 1];
    $("called").textContent = `Called ${one.verdict}`;
    $("called").className = one.verdict;
    $("p").textContent = Number(one.p.toPrecision(2));
    $("score").textContent = Number(one.score.toPrecision(3));
    $("outside").hidden = !one.outside;
    $("outside").querySelector("span").textContent = one.outside;
    document.querySelectorAll("[data-strip]").forEach((strip) => { strip.hidden = Number(strip.dataset.strip) !== at; });
    document.querySelectorAll("[data-label]").forEach((button) => button.setAttribute("aria-pressed", Boolean(last) && button.dataset.label === last.label));
    if (last && last.kind && !$("kind").value) $("kind").value = $("kind").dataset.filled = last.kind;
    const drawn = one.regions.length;
    $("drawn").textContent = drawn ? `${drawn} region${drawn > 1 ? "s" : ""} drawn` : "No region drawn";
    $("undo").disabled = !drawn;
    $("take-back").hidden = !mine();
    const who = (other) => (other.reader === facts.reader ? "you" : other.reader);
    say(one.given.map((other) => `${who(other)}: ${other.label}${other.kind ? ` (${other.kind})` : ""}`).join(", "));
    if ($("slice")) { $("slice").value = at + 1; $("slice-number").textContent = at + 1; }
  }

  // ---- controls ----
  const toggle = (id) => { $(id).setAttribute("aria-pressed", $(id).getAttribute("aria-pressed") !== "true"); remember(); redraw(); };
  const full = () => (document.fullscreenElement ? document.exitFullscreen() : $("viewer").requestFullscreen());
  function fainter(by) { $("opacity").value = Number($("opacity").value) + by; remember(); redraw(); }
  function compare() {
    if (!$("compare")) return;
    $("compare").disabled = true;
    $("compare").textContent = "looking; the first time takes some seconds";
    htmx.ajax("GET", `/images/${images[at].id}/nearest`, { target: "#near", swap: "innerHTML" });
  }
  function remember() {
    try { localStorage.setItem("aeflow-view", JSON.stringify({ opacity: $("opacity").value, onwards: $("onwards").checked, mapped: $("mapped").getAttribute("aria-pressed") })); } catch { /* a private window keeps nothing */ }
  }
  try {
    const kept = JSON.parse(localStorage.getItem("aeflow-view"));
    if (kept) { $("opacity").value = kept.opacity; $("onwards").checked = kept.onwards; $("mapped").setAttribute("aria-pressed", kept.mapped || "true"); }
  } catch { /* likewise */ }

  $("opacity").addEventListener("input", () => { remember(); redraw(); });
  $("onwards").addEventListener("change", remember);
  $("mapped").addEventListener("click", () => toggle("mapped"));
  $("take-back").addEventListener("click", takeBack);
  $("draw").addEventListener("click", () => draws(!drawing));
  $("smaller").addEventListener("click", () => zoom(1 / 1.25));
  $("larger").addEventListener("click", () => zoom(1.25));
  $("reset").addEventListener("click", reset);
  $("full").addEventListener("click", full);
  $("undo").addEventListener("click", undo);
  if ($("compare")) $("compare").addEventListener("click", compare);
  if ($("slice")) $("slice").addEventListener("input", () => show(Number($("slice").value) - 1));
  if ($("all-normal")) $("all-normal").addEventListener("click", allNormal);
  document.querySelectorAll("[data-label]").forEach((button) => button.addEventListener("click", () => label(button.dataset.label)));
  document.querySelectorAll("[data-opens]").forEach((button) => button.addEventListener("click", () => $(button.dataset.opens).showModal()));
  new ResizeObserver(redraw).observe(canvas);

  function whileDrawing(event) {
    const step = event.shiftKey ? 0.05 : 0.01;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) {
      const [x, y] = moves[event.key];
      cursor = { x: between(cursor.x + x, 0, 1), y: between(cursor.y + y, 0, 1) };
      redraw();
    } else if (event.key === "Enter") mark();
    else if (event.key === "Escape") draws(false);
    else return false;
    return true;
  }

  // In full screen the field cannot be seen: it is left first, and what is typed meanwhile is no command.
  async function type() {
    typing = true;
    if (document.fullscreenElement) await document.exitFullscreen();
    $("kind").focus();
    typing = false;
  }

  let typing = false;
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  addEventListener("keydown", (event) => {
    if (typing) { event.preventDefault(); return; }
    if (event.ctrlKey || event.altKey || event.metaKey || $("help").open) return;
    if (event.target.matches("#kind")) {
      if (event.key === "Enter") { event.preventDefault(); event.target.blur(); label("abnormal"); }
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (drawing && whileDrawing(event)) { event.preventDefault(); return; }
    if (event.target.matches("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key)) return;
    const key = event.getModifierState("CapsLock") && event.key.length === 1 ? flipped(event.key) : event.key;
    if (event.repeat && /^[nauNxz]$/.test(key)) { event.preventDefault(); return; } // a held key labels one study, not the next ones
    const keys = {
      j: () => go("next"), ArrowRight: () => go("next"), k: () => go("previous"), ArrowLeft: () => go("previous"),
      n: () => label("normal"), a: () => label("abnormal"), u: () => label("unsure"), N: () => { if (images.length > 1) allNormal(); },
      t: type, x: takeBack, l: () => go("up"), z: () => { if (!link.hidden) location.assign(link.href); }, d: () => draws(!drawing), Backspace: undo, m: () => toggle("mapped"),
      "[": () => fainter(-10), "]": () => fainter(10), "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(1 / 1.25),
      b: () => shade(0.05, 0), v: () => shade(-0.05, 0), B: () => shade(0, -0.05), V: () => shade(0, 0.05),
      0: reset, f: full, c: compare, "?": () => $("help").showModal(),
      PageDown: () => show(at + 1), PageUp: () => show(at - 1),
    };
    if (!(key in keys)) return;
    event.preventDefault();
    keys[key]();
  });
  show(at);
})();
