// Regions: two corners, by pointer or by keys; what is drawn on an image that is abnormal already is kept at once.
import { between, inImage, on, redraw } from "./image.js";
import { describe, kept } from "./labels.js";
import { stops } from "./losses.js";
import { $, fresh, mine, present, say } from "./study.js";

let drawing = false, corner = null, cursor = { x: 0.5, y: 0.5 };

export function draws(begins = !drawing) {
  drawing = begins;
  corner = null;
  $("draw").setAttribute("aria-pressed", drawing);
  say(drawing ? "First corner: click, or move with the arrows and press Enter" : "");
  redraw();
}

function mark() {
  if (!corner) {
    corner = { ...cursor };
    say("Second corner: click, or move with the arrows and press Enter");
  } else {
    const region = ordered(corner, cursor);
    draws(false);
    if (region[2] - region[0] > 0.002 && region[3] - region[1] > 0.002) changed([...present().regions, region]);
    else say("Too small: draw it again", true);
  }
  redraw();
}

export function undo() {
  const { regions } = present();
  if (!regions.length) return;
  const last = regions[regions.length - 1];
  if (!fresh().includes(last) && stops("undo", ["a region that is kept"])) return;
  changed(regions.slice(0, -1));
}

async function changed(regions) {
  present().regions = regions;
  describe();
  redraw();
  if (mine() && mine().label === "abnormal") await kept("abnormal");
  else if (fresh().length) say("Press a to label it abnormal with what is drawn");
}

const ordered = (a, b) => [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];

on.down = (event) => {
  if (drawing && event.button === 0) { cursor = inImage(event); mark(); }
};
on.move = (event) => {
  if (drawing) { cursor = inImage(event); redraw(); }
  return drawing;
};
on.draw = ({ pen, ratio, left, top, width, height }) => {
  function box([x0, y0, x1, y1], colour) {
    pen.strokeStyle = colour;
    pen.strokeRect(left + x0 * width, top + y0 * height, (x1 - x0) * width, (y1 - y0) * height);
  }
  for (const region of present().regions) box(region, "#6fe3ff");
  if (!drawing) return;
  if (corner) box(ordered(corner, cursor), "#ffffff");
  const x = left + cursor.x * width, y = top + cursor.y * height, arm = 14 * ratio;
  pen.strokeStyle = "#ffffff";
  pen.beginPath();
  pen.moveTo(x - arm, y); pen.lineTo(x + arm, y); pen.moveTo(x, y - arm); pen.lineTo(x, y + arm);
  pen.stroke();
};

// True if a key was for the region that is being drawn.
export function drawsBy(event) {
  if (!drawing) return false;
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

$("draw").addEventListener("click", () => draws());
$("undo").addEventListener("click", undo);
