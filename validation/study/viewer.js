"use strict";
// Shows the tasks of one rater one by one, and chains the answers as records.py and returns.py have them.
(() => {
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const terms = read("terms"), tasks = read("tasks");
  const { study_id: study, rater_id: rater } = tasks[0];
  const SIDES = terms.kind === "preference" ? ["A", "B"] : ["A"];
  const PANELS = ["input", ...SIDES];
  const CYCLE = terms.kind === "preference" ? ["A", "input", "B"] : ["A", "input"];
  const NAMES = { input: terms.as_scanned, A: "A", B: "B" };
  const LEVELS = [0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32]; // screen pixels per pixel: whole numbers, so that all look alike
  const FLICKER_MS = 600; // below three flashes a second
  const GESTURE_MS = 400; // wheel events closer than this are one zoom
  const RETRY_MS = 15000;

  // ---- The chain of answers ----

  async function sha256(text) {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  function canonical(value) {
    if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
    if (value === null || typeof value !== "object") return JSON.stringify(value);
    return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
  }

  // Only who has this page's secret can chain its answers.
  const hashed = (text) => sha256(terms.secret ? `${terms.secret}/${text}` : text);

  let chain = { lines: [], previous: "", answered: 0, closed: false };
  const exported = () => chain.lines.map((line) => `${line}\n`).join("");

  async function begun() {
    return { lines: [], previous: await hashed(`${study}/${rater}`), answered: 0, closed: false };
  }

  async function extended(from, record) {
    const line = canonical({ ...record, study_id: study, rater_id: rater, prev_hash: from.previous });
    const rating = record.record === "rating";
    return { lines: [...from.lines, line], previous: await hashed(line), answered: from.answered + Number(rating), closed: !rating };
  }

  // The answers in a text, as far as they are this rater's, in order, and chained; throws a sentence where they are not.
  async function verified(text) {
    let found = await begun();
    for (const [place, line] of (text ? text.replace(/\n$/, "").split("\n") : []).entries()) {
      const where = `Line ${place + 1}`;
      let record;
      try { record = JSON.parse(line); } catch { throw new Error(`${where} is no answer.`); }
      if (record === null || typeof record !== "object") throw new Error(`${where} is no answer.`);
      if (record.study_id !== study || record.rater_id !== rater) throw new Error(`${where} is of ${record.study_id}, rater ${record.rater_id}; this page is of ${study}, rater ${rater}.`);
      if (found.closed || record.prev_hash !== found.previous) throw new Error(`${where} does not follow what is before it.`);
      const closing = record.record === "closing", task = tasks[found.answered];
      const fits = closing ? !task && record.ratings === found.answered : task && record.record === "rating" && record.task_id === task.task_id && record.seq === task.seq;
      if (!fits) throw new Error(`${where} does not answer task ${found.answered + 1} of this page.`);
      found = { lines: [...found.lines, line], previous: await hashed(line), answered: found.answered + Number(!closing), closed: closing };
    }
    return found;
  }

  const continues = (longer, shorter) => shorter.lines.every((line, place) => line === longer.lines[place]);

  // ---- What the browser keeps ----

  const KEY = `srh-study/${study}/${rater}`;
  let storage = null, delivered = true;
  try {
    localStorage.setItem("srh-study", "probe");
    localStorage.removeItem("srh-study");
    storage = localStorage;
  } catch { /* said on the page */ }

  function keep(name, text) {
    if (!storage) return;
    try {
      if (text === null) storage.removeItem(`${KEY}/${name}`); else storage.setItem(`${KEY}/${name}`, text);
    } catch {
      storage = null;
      sayKept();
    }
  }

  const kept = (name) => storage?.getItem(`${KEY}/${name}`) ?? "";

  function sayKept() {
    const saved = { none: "", saving: "Saving…", saved: "Saved on the workstation’s server", failed: "The server did not take the answers; they are tried again" }[server];
    const browser = storage ? "Kept in this browser" : "This browser keeps nothing: export before you close the page";
    one("#kept").textContent = server === "saved" ? saved : [saved, browser].filter(Boolean).join(" · ");
    one("#how").hidden = server === "saved";
    one("#arrived").hidden = server !== "saved";
    one("#kept").classList.toggle("bad", server === "failed" || (!storage && server !== "saved"));
  }

  let troubled = "", elsewhere = "";
  function trouble(text) {
    troubled = text;
    const said = [troubled, elsewhere].filter(Boolean).join(" ");
    one("#trouble").textContent = said;
    one("#trouble").hidden = !said;
  }

  // ---- Other windows of this browser: the one that is there answers the one that comes ----

  const me = [...crypto.getRandomValues(new Uint8Array(8))].join("-");
  const SECOND = "This page is open in another window too: go on in one of them alone, and close the other.";
  const channel = globalThis.BroadcastChannel ? new BroadcastChannel(KEY) : null;

  function tell(said) {
    keep("window", JSON.stringify({ ...said, from: me }));
    channel?.postMessage(JSON.stringify({ ...said, from: me }));
  }

  function heard(text) {
    let said = null;
    try { said = JSON.parse(text); } catch { /* nothing of ours */ }
    if (!said || said.from === me || (said.to && said.to !== me)) return;
    elsewhere = said.gone ? "" : SECOND;
    trouble(troubled);
    if (said.opened) tell({ to: said.from });
  }

  // ---- The server, when the page comes from one; from a file nothing is ever sent ----

  const served = location.protocol === "http:" || location.protocol === "https:";
  let server = "none", sending = null, again = false, retry = 0;

  function send() {
    if (!served) return Promise.resolve();
    again = true;
    sending ??= sendAll().finally(() => { sending = null; });
    return sending;
  }

  async function sendAll() {
    while (again) {
      let told = "";
      again = false;
      server = "saving";
      sayKept();
      try {
        const answer = await fetch(`/returned/${rater}`, { method: "PUT", headers: { "Content-Type": "application/x-ndjson", "X-Window": me }, body: exported(), cache: "no-store" });
        if (answer.status === 409) await reconcile(await answer.text());
        else if (answer.ok) { server = "saved"; delivered = true; told = (await answer.text()).replace("Saved.", "").trim(); } else throw new Error(await answer.text());
      } catch (error) {
        server = "failed";
        trouble(`The answers are not on the server: ${error.message}`);
        clearTimeout(retry);
        retry = setTimeout(send, RETRY_MS);
      }
      if (server === "saved") trouble(told);
      sayKept();
    }
  }

  // The server has other answers than this page: those that go on from here are taken over while no task is open.
  async function reconcile(text) {
    const held = await verified(text);
    if (!continues(held, chain)) throw new Error("it holds other answers of this rater. Export yours and ask whoever runs the study.");
    if (task) throw new Error("it holds later answers of this rater, from another window. Reload this page.");
    chain = held;
    keep("lines", exported());
    server = "saved";
  }

  // ---- Images ----

  function bytesOf(id) {
    const text = atob(one(`script[data-img="${id}"]`).textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  // Red CH3 - CH2, green CH2, blue CH3, each from 0 at the first of its counts to full at the second.
  function coloured({ height, width, window: shown }, bytes) {
    const step = (shown.high - shown.low) / 255, pixels = height * width;
    const ramp = ([from, to], counts) => Uint8ClampedArray.from(counts, (count) => (255 * (count - from)) / (to - from || 1));
    const plane = Array.from({ length: 256 }, (_, value) => shown.low + value * step);
    const green = ramp(shown.green, plane), blue = ramp(shown.blue, plane);
    const red = ramp(shown.red, Array.from({ length: 511 }, (_, value) => (value - 255) * step));
    const image = new ImageData(width, height), { data } = image;
    for (let i = 0; i < pixels; i++) {
      const ch2 = bytes[i], ch3 = bytes[pixels + i];
      data[4 * i] = red[ch3 - ch2 + 255];
      data[4 * i + 1] = green[ch2];
      data[4 * i + 2] = blue[ch3];
      data[4 * i + 3] = 255;
    }
    return image;
  }

  function painted(of, id) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [of.width, of.height];
    canvas.getContext("2d").putImageData(coloured(of, bytesOf(id)), 0, 0);
    return canvas;
  }

  // ---- Panels: one view for all ----

  let task = null, draft = null, pictures = {};
  let view = { zoom: 1, x: 0, y: 0, whole: true }; // screen pixels per pixel; the pixel in the middle
  let pointer = null, marking = null, flicker = null, current = null, busy = false, lastZoom = 0, wheeled = 0;
  const panels = {};

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  for (const name of PANELS) {
    const canvas = element("canvas"), bar = element("div", { className: "scalebar" }), caption = element("figcaption", { textContent: NAMES[name] });
    canvas.setAttribute("role", "img");
    one("#panels").append(element("figure", { id: `panel-${name}` }, caption, element("div", { className: "frame" }, canvas, bar)));
    panels[name] = { name, canvas, bar, caption };
    canvas.addEventListener("wheel", (event) => onWheel(event, name), { passive: false });
    canvas.addEventListener("pointerdown", (event) => onDown(event, name));
    canvas.addEventListener("pointermove", (event) => { pointer = { panel: name, ...place(event, name) }; redraw(); });
    canvas.addEventListener("pointerleave", () => { pointer = null; redraw(); });
    new ResizeObserver(() => { fit(); redraw(); }).observe(canvas);
  }

  const ratio = () => window.devicePixelRatio || 1;

  function sized(panel) {
    const width = Math.max(1, Math.round(panel.canvas.clientWidth * ratio())), height = Math.max(1, Math.round(panel.canvas.clientHeight * ratio()));
    if (panel.canvas.width !== width) panel.canvas.width = width;
    if (panel.canvas.height !== height) panel.canvas.height = height;
    return { width, height };
  }

  const wholeZoom = () => {
    const { width, height } = sized(panels.A);
    return Math.min(width / task.width, height / task.height);
  };

  function fit() {
    if (!task) return;
    if (view.whole) view.zoom = wholeZoom();
    const { width, height } = sized(panels.A);
    const inside = (at, room, edge) => (edge * view.zoom <= room ? edge / 2 : Math.min(Math.max(at, room / 2 / view.zoom), edge - room / 2 / view.zoom));
    view.x = inside(view.x, width, task.width);
    view.y = inside(view.y, height, task.height);
  }

  // Where the field's corner lies on a canvas; whole screen pixels, or rows would be of unequal height.
  function corner({ width, height }) {
    return { left: Math.round(width / 2 - view.x * view.zoom), top: Math.round(height / 2 - view.y * view.zoom) };
  }

  function place(event, name) {
    const { left, top } = corner(sized(panels[name]));
    return { x: (event.offsetX * ratio() - left) / view.zoom, y: (event.offsetY * ratio() - top) / view.zoom };
  }

  const pixel = (at) => ({ x: Math.min(Math.max(Math.floor(at.x), 0), task.width - 1), y: Math.min(Math.max(Math.floor(at.y), 0), task.height - 1) });

  function zoom(by, at) {
    const least = wholeZoom();
    const next = by > 0 ? LEVELS.find((level) => level > view.zoom * 1.01 && level > least) : LEVELS.findLast((level) => level < view.zoom * 0.99 && level > least);
    if (by > 0 && !next) return;
    if (by < 0 && view.whole) return;
    const before = view.zoom;
    view.whole = !next;
    view.zoom = next ?? least;
    if (at) {
      view.x = at.x + ((view.x - at.x) * before) / view.zoom;
      view.y = at.y + ((view.y - at.y) * before) / view.zoom;
    }
    fit();
    countZoom();
    redraw();
  }

  function whole() {
    if (view.whole) return;
    view.whole = true;
    fit();
    countZoom();
    redraw();
  }

  function countZoom() {
    const now = Date.now();
    if (now - lastZoom > GESTURE_MS || !wheeled) draft.n_zoom += 1;
    lastZoom = now;
    saveDraft();
  }

  function onWheel(event, name) {
    event.preventDefault();
    wheeled += event.deltaMode ? 40 * event.deltaY : event.deltaY;
    if (Math.abs(wheeled) < 40) return;
    zoom(-wheeled, place(event, name));
    wheeled = 0.1 * Math.sign(wheeled);
  }

  function pan(dx, dy) {
    view.x += dx;
    view.y += dy;
    fit();
    redraw();
  }

  function onDown(event, name) {
    if (event.button > 1) return;
    event.preventDefault();
    document.activeElement?.blur();
    const { canvas } = panels[name], start = { x: event.clientX, y: event.clientY }, from = pixel(place(event, name));
    const marks = event.button === 0 && (marking || event.shiftKey) && !draft.pending;
    if (marks && name === "input") return say(`Mark in ${SIDES.join(" or ")}, not in the image as scanned.`);
    if (marks) marking = { side: name, ...from, from, drawn: true };
    canvas.setPointerCapture(event.pointerId);
    let last = start;
    const move = (to) => {
      if (marks) Object.assign(marking, pixel(place(to, name)));
      else pan(((last.x - to.clientX) * ratio()) / view.zoom, ((last.y - to.clientY) * ratio()) / view.zoom);
      last = { x: to.clientX, y: to.clientY };
      redraw();
    };
    const stop = (to) => {
      for (const [kind, listener] of listeners) canvas.removeEventListener(kind, listener);
      if (!marks || !marking) return;
      const moved = Math.hypot(to.clientX - start.x, to.clientY - start.y) > 3;
      if (to.type === "pointerup") finish(name, from, moved ? pixel(place(to, name)) : from);
      else setMarking(null);
    };
    const listeners = [["pointermove", move], ["pointerup", stop], ["pointercancel", stop]];
    for (const [kind, listener] of listeners) canvas.addEventListener(kind, listener);
    redraw();
    return undefined;
  }

  // ---- Drawing ----

  let drawn = 0;
  function redraw() {
    if (!drawn) drawn = requestAnimationFrame(() => { drawn = 0; if (task) for (const name of PANELS) draw(panels[name]); });
  }

  const flickering = () => flicker && CYCLE[flicker.place];

  function draw(panel) {
    const size = sized(panel), context = panel.canvas.getContext("2d");
    const shown = panel.name === "A" && flicker ? flickering() : panel.name;
    const { left, top } = corner(size);
    context.clearRect(0, 0, size.width, size.height);
    context.imageSmoothingEnabled = view.zoom < 1; // only where several pixels fall on one of the screen
    context.drawImage(pictures[shown], left, top, Math.round(task.width * view.zoom), Math.round(task.height * view.zoom));
    const pen = { context, left, top };
    if (task.focus) outline(pen, box(task.focus), "#ffb454", [], 3);
    if (!flicker) drawMarks(pen, shown);
    drawCross(pen, panel.name);
    scalebar(panel.bar, size);
    panel.caption.textContent = NAMES[shown];
    panel.canvas.setAttribute("aria-label", `${shown === "input" ? terms.as_scanned : `Image ${shown}`}, ${Math.round((view.zoom / ratio()) * 100)} % of its size`);
  }

  const box = ([x, y, width, height]) => [x, y, x + width, y + height];

  function drawMarks(pen, side) {
    const marks = draft.pending ? [...draft.regions, draft.pending] : draft.regions;
    for (const [place, mark] of marks.entries()) {
      if (mark.side !== side) continue;
      const edges = mark.shape === "box" ? mark.xy : [mark.xy[0], mark.xy[1], mark.xy[0] + 1, mark.xy[1] + 1];
      outline(pen, edges, "#7fe3ff", mark.severity === "minor" ? [6, 4] : [], mark.shape === "box" ? 2 : 7, String(place + 1), mark.shape === "point");
    }
    if (marking?.from && marking.side === side) outline(pen, spanned(marking.from, marking), "#7fe3ff", [3, 3], 2);
  }

  // Lies around what it encloses and hides none of it.
  function outline({ context, left, top }, [x0, y0, x1, y1], colour, dashes, gap, label = "", round = false) {
    const scale = unit(), margin = gap * scale;
    const [x, y] = [left + x0 * view.zoom - margin, top + y0 * view.zoom - margin];
    const [width, height] = [(x1 - x0) * view.zoom + 2 * margin, (y1 - y0) * view.zoom + 2 * margin];
    context.beginPath();
    if (round) context.ellipse(x + width / 2, y + height / 2, width / 2, height / 2, 0, 0, 2 * Math.PI); else context.rect(x, y, width, height);
    for (const [stroke, thick, pattern] of [["#000c", 4, []], [colour, 2, dashes]]) {
      context.setLineDash(pattern.map((length) => length * scale));
      context.strokeStyle = stroke;
      context.lineWidth = thick * scale;
      context.stroke();
    }
    if (!label) return;
    context.font = `bold ${rem()}px system-ui, sans-serif`;
    context.lineWidth = 4 * scale;
    context.setLineDash([]);
    context.strokeStyle = "#000";
    context.fillStyle = colour;
    const at = [x + width + 4 * scale, y + 0.6 * rem()];
    context.strokeText(label, ...at);
    context.fillText(label, ...at);
  }

  const rem = () => parseFloat(getComputedStyle(document.documentElement).fontSize) * ratio();
  const unit = () => rem() / 15; // lines are as thick as letters are

  // The same place in every image: of the keyboard's crosshair, or of the pointer in the other images.
  function drawCross({ context, left, top }, name) {
    const keyed = marking && !marking.drawn;
    const at = keyed ? { x: marking.x + 0.5, y: marking.y + 0.5 } : pointer && pointer.panel !== name ? pointer : null;
    if (!at || flicker) return;
    const scale = unit(), x = left + at.x * view.zoom, y = top + at.y * view.zoom;
    const hole = Math.max(view.zoom * 0.7, 3 * scale), arm = hole + 14 * scale;
    context.setLineDash([]);
    for (const [stroke, thick] of [["#000c", 4], [keyed && marking.side === name ? "#7fe3ff" : "#fff", 1.6]]) {
      context.strokeStyle = stroke;
      context.lineWidth = thick * scale;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + dx * hole, y + dy * hole);
        context.lineTo(x + dx * arm, y + dy * arm);
      }
      context.stroke();
    }
  }

  function scalebar(bar, { width }) {
    const um = (task.um_per_px * ratio()) / view.zoom; // of one CSS pixel
    const most = (um * width) / ratio() / 4, power = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].map((n) => n * power).find((n) => n <= most);
    bar.style.width = `${length / um}px`;
    bar.textContent = `${Number(length.toPrecision(1))} µm`;
  }

  // ---- Flicker ----

  function setFlicker(on) {
    if (Boolean(flicker) === on || !task) return;
    clearInterval(flicker?.timer);
    flicker = null;
    if (on) {
      draft.n_flicker += 1;
      saveDraft();
      const next = () => { flicker.place = (flicker.place + 1) % CYCLE.length; redraw(); };
      flicker = { place: 0, timer: setInterval(next, FLICKER_MS) };
      next();
    }
    document.body.classList.toggle("flickering", on);
    one("[data-do=flicker]").setAttribute("aria-pressed", String(on));
    redraw();
  }

  // ---- Marks ----

  const spanned = (from, to) => [Math.min(from.x, to.x), Math.min(from.y, to.y), Math.max(from.x, to.x) + 1, Math.max(from.y, to.y) + 1];

  function setMarking(on) {
    marking = on;
    one("[data-do=mark]").setAttribute("aria-pressed", String(Boolean(on)));
    document.body.classList.toggle("marking", Boolean(on));
    redraw();
  }

  function startMarking() {
    if (marking || draft.pending) return setMarking(null);
    setMarking({ side: "A", ...pixel(view), from: null });
    document.activeElement?.blur();
    return say(`Mark in ${SIDES.join(" or ")}: drag a box, or click for a point. Keys: arrows${SIDES.length > 1 ? ", A or B" : ""}, Space for each corner, Esc.`);
  }

  // How much of the image the boxes on a side hold together, with one more.
  function held(side, box) {
    const marked = new Uint8Array(task.width * task.height), boxes = draft.regions.filter((mark) => mark.side === side && mark.shape === "box");
    for (const [x0, y0, x1, y1] of [...boxes.map((mark) => mark.xy), box]) {
      for (let y = y0; y < y1; y++) marked.fill(1, y * task.width + x0, y * task.width + x1);
    }
    return marked.reduce((sum, one) => sum + one, 0) / marked.length;
  }

  // A pixel is the point's; of a box both corners' pixels are inside, and the numbers are its edges.
  function finish(side, from, to) {
    const point = from.x === to.x && from.y === to.y, [x0, y0, x1, y1] = spanned(from, to);
    if ((x1 - x0) * (y1 - y0) > terms.largest_mark * task.width * task.height) {
      setMarking(null);
      return say("No mark was made: a box around so much of the image finds nothing. Mark what you found.");
    }
    if (!point && held(side, [x0, y0, x1, y1]) > terms.largest_mark) {
      setMarking(null);
      return say("No mark was made: boxes around so much of the image find nothing. Mark what you found.");
    }
    if (draft.regions.filter((mark) => mark.side === side).length >= terms.most_marks) {
      setMarking(null);
      return say(`No mark was made: there are ${terms.most_marks} on this side already. Mark what you found.`);
    }
    draft.pending = { side, shape: point ? "point" : "box", xy: point ? [from.x, from.y] : spanned(from, to), category: null, severity: null };
    setMarking(null);
    saveDraft();
    showMarks();
    say(`${point ? "Point" : "Box"} in ${side}. ${terms.questions.category.text}`);
    return ask("category");
  }

  function corners() {
    if (marking.from) return finish(marking.side, marking.from, marking);
    marking.from = { x: marking.x, y: marking.y };
    redraw();
    return say("Corner set. Arrows, then Space for the opposite corner; Space here makes a point.");
  }

  function moveCross(dx, dy) {
    Object.assign(marking, pixel({ x: marking.x + dx, y: marking.y + dy }), { drawn: false });
    const { width, height } = sized(panels.A), margin = 4;
    const beyond = (at, middle, room) => Math.sign(at - middle) * Math.max(0, Math.abs(at - middle) + margin - room / 2 / view.zoom);
    pan(beyond(marking.x, view.x, width), beyond(marking.y, view.y, height));
  }

  function chooseSide(side) {
    marking.side = side;
    say(`Marking in ${side}.`);
    redraw();
  }

  function removeMark(place) {
    if (!(place in draft.regions)) return;
    draft.regions.splice(place, 1);
    saveDraft();
    showMarks();
    say(`Mark ${place + 1} removed.`);
    focusCurrent();
  }

  function dropPending() {
    draft.pending = null;
    saveDraft();
    showMarks();
    ask(unanswered()[0] ?? null);
    say("No mark was made.");
  }

  function showMarks() {
    const listed = draft.regions.map((mark, place) => {
      const button = element("button", { type: "button", textContent: "×", title: "Remove" });
      button.setAttribute("aria-label", `Remove mark ${place + 1}`);
      button.addEventListener("click", () => removeMark(place));
      return element("li", {}, element("span", { textContent: `${place + 1} in ${mark.side}: ${mark.category}, ${mark.severity}` }), button);
    });
    one("#marks ul").replaceChildren(...(listed.length ? listed : [element("li", { className: "soft", textContent: "none" })]));
    one("#marks li:last-child").scrollIntoView?.({ block: "nearest" });
    one("#editor").hidden = !draft.pending;
    if (draft.pending) {
      const where = `${draft.pending.shape === "box" ? "Box" : "Point"} in ${draft.pending.side}`;
      one("#editor").replaceChildren(element("p", {}, element("b", { textContent: where }), " ", element("span", { className: "soft", textContent: "Esc drops it" })), ...["category", "severity"].map(group));
    }
    showAnswers();
    redraw();
  }

  // ---- Questions ----

  const holder = (name) => (name === "category" || name === "severity" ? draft.pending : draft.answers);
  const unanswered = () => task.questions.filter((name) => draft.answers[name] === undefined);

  function group(name) {
    const { text, choices } = terms.questions[name];
    const label = element("h3", { id: `ask-${name}`, textContent: text });
    const buttons = choices.map(([value, called], place) => {
      const key = String(place + 1); // said once where an answer is called what its key is
      const button = element("button", { type: "button", value, tabIndex: -1 }, element("kbd", { textContent: key }), ...(called === key ? [] : [` ${called}`]));
      button.setAttribute("aria-label", called);
      button.addEventListener("click", () => choose(name, value));
      button.addEventListener("focus", () => setCurrent(name));
      return button;
    });
    const made = element("div", { className: "question" }, label, element("div", { className: "options" }, ...buttons));
    made.dataset.ask = name;
    made.setAttribute("role", "group");
    made.setAttribute("aria-labelledby", label.id);
    return made;
  }

  function setCurrent(name) {
    current = name;
    for (const question of all(".question")) question.classList.toggle("current", question.dataset.ask === name);
  }

  function focusCurrent() {
    const target = current ? one(`[data-ask="${current}"] [tabindex="0"]`) : one("#commit");
    target?.focus({ preventScroll: true });
  }

  function ask(name) {
    setCurrent(name);
    focusCurrent();
  }

  function choose(name, value) {
    if (busy) return;
    holder(name)[name] = value;
    const { category, severity } = draft.pending ?? {};
    if (category && severity) {
      draft.regions.push(draft.pending);
      draft.pending = null;
      say(`Mark ${draft.regions.length}: ${category}, ${severity}.`);
    }
    saveDraft();
    if (holder(name) && name !== "category") showAnswers(); else showMarks();
    const order = draft.pending ? ["category", "severity"] : task.questions, values = draft.pending ?? draft.answers;
    const open = order.filter((other) => values[other] === undefined || values[other] === null);
    const after = open.find((other) => order.indexOf(other) > order.indexOf(name));
    ask(after ?? open[0] ?? null);
    if (!draft.pending && !open.length) say("All questions are answered: Enter commits the task.");
  }

  function showAnswers() {
    for (const question of all(".question")) {
      const value = holder(question.dataset.ask)?.[question.dataset.ask];
      const buttons = [...question.querySelectorAll("button")];
      for (const button of buttons) {
        const pressed = value !== undefined && value !== null && button.value === String(value);
        button.setAttribute("aria-pressed", String(pressed));
        button.tabIndex = -1;
      }
      (buttons.find((button) => button.getAttribute("aria-pressed") === "true") ?? buttons[0]).tabIndex = 0;
      question.classList.toggle("answered", value !== undefined && value !== null);
    }
    one("#commit").setAttribute("aria-disabled", String(!ready()));
  }

  const ready = () => !draft.pending && !unanswered().length;

  function step(by) {
    const order = draft.pending ? ["category", "severity"] : task.questions;
    const at = order.indexOf(current);
    ask(order[at < 0 ? (by > 0 ? 0 : order.length - 1) : Math.min(Math.max(at + by, 0), order.length - 1)]);
  }

  function answer(number) {
    const choice = current && terms.questions[current].choices[number - 1];
    if (choice) choose(current, choice[0]);
  }

  function say(text) {
    one("#hint").textContent = text;
  }

  // ---- From task to task ----

  const saveDraft = () => keep("draft", JSON.stringify(draft));

  function show(name) {
    for (const main of all("main")) main.hidden = main.id !== name;
    one("#progress progress").value = chain.answered / tasks.length;
    one("#progress span").textContent = task ? `Task ${chain.answered + 1} of ${tasks.length}` : `${chain.answered} of ${tasks.length} answered`;
    one("#export").disabled = !chain.lines.length;
    sayKept();
  }

  function resumed(next) {
    try {
      const found = JSON.parse(kept("draft"));
      if (found.task_id === next.task_id) return found;
    } catch { /* none is kept */ }
    return null;
  }

  async function go() {
    const next = tasks[chain.answered];
    task = null;
    if (!next) return finished();
    const going = resumed(next), before = tasks[chain.answered - 1];
    if (before && before.block !== next.block && !going && !one("#task").hidden) return rest();
    return open(next, going);
  }

  function rest() {
    show("pause");
    one("#pause h2").textContent = `${chain.answered} of ${tasks.length} tasks are answered.`;
    one("#goon").focus();
  }

  // A clock that was set back between two tasks does not show one before the other was answered.
  const lastAnswered = () => (chain.lines.length ? JSON.parse(chain.lines.at(-1)).t_answered : 0);

  function open(next, going) {
    const ids = { input: next.lq_img, A: next.img_A, B: next.img_B };
    pictures = Object.fromEntries(PANELS.map((name) => [name, painted(next, ids[name])]));
    task = next;
    draft = going ?? { task_id: next.task_id, t_shown: Math.max(Date.now(), lastAnswered()), answers: {}, regions: [], pending: null, comment: "", n_zoom: 0, n_flicker: 0 };
    saveDraft();
    [view, pointer, wheeled] = [{ zoom: 1, x: next.width / 2, y: next.height / 2, whole: true }, null, 0];
    one("#questions").replaceChildren(...task.questions.map(group));
    one("#comment input").value = draft.comment;
    setMarking(null);
    show("task");
    fit();
    say(going ? "Back where you stopped." : `Task ${chain.answered + 1}.`);
    showMarks();
    ask(draft.pending ? (draft.pending.category ? "severity" : "category") : (unanswered()[0] ?? null));
  }

  const asked = (name) => (task.questions.includes(name) ? draft.answers[name] : null);

  function rating() {
    const names = ["pref_quality", "pref_fidelity", "confidence", "halluc_A", "halluc_B", "method_guess"];
    return {
      record: "rating",
      schema_version: terms.schema_version,
      seq: task.seq,
      task_id: task.task_id,
      ...Object.fromEntries(names.map((name) => [name, asked(name)])),
      regions: draft.regions,
      comment: draft.comment.toWellFormed?.() ?? draft.comment,
      t_shown: draft.t_shown,
      t_answered: Math.max(Date.now(), draft.t_shown), // a clock that was set back
      n_zoom: draft.n_zoom,
      n_flicker: draft.n_flicker,
    };
  }

  async function commit() {
    if (busy || !task) return;
    if (draft.pending) return say("Finish the mark first, or drop it with Esc.");
    const open = unanswered();
    if (open.length) {
      ask(open[0]);
      return say(`Still open: ${open.map((name) => terms.questions[name].text).join(" ")}`);
    }
    if (kept("lines") && kept("lines") !== exported()) return trouble("Answers were given in another window meanwhile. Reload this page; nothing is lost.");
    busy = true;
    setFlicker(false);
    try {
      chain = await closing(await extended(chain, rating()));
      keep("lines", exported());
      keep("draft", null);
      delivered = false;
    } finally {
      busy = false;
    }
    send();
    return go();
  }

  const closing = async (from) => (from.answered === tasks.length && !from.closed ? extended(from, { record: "closing", ratings: from.answered }) : from);

  function finished() {
    one("#receipt").textContent = chain.previous.slice(0, terms.receipt);
    show("done");
    one("#deliver").focus();
  }

  function save(text = exported()) {
    const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" })), download: `${rater}.jsonl` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    delivered = true;
    say("Exported.");
  }

  async function take(file) {
    try {
      const found = await verified(await file.text());
      if (!continues(found, chain) && !continues(chain, found)) throw new Error("These are other answers than those that this browser keeps.");
      if (found.lines.length > chain.lines.length) {
        chain = await closing(found);
        keep("lines", exported());
        keep("draft", null);
      }
      trouble("");
      await offer();
    } catch (error) {
      trouble(`The file was not taken. ${error.message}`);
    }
  }

  // ---- Beginning ----

  async function offer() {
    await send();
    show("start");
    const number = chain.answered + 1;
    one("#begin").firstChild.textContent = chain.closed ? "Show the receipt " : chain.answered || kept("draft") ? `Continue with task ${number} of ${tasks.length} ` : "Begin ";
    one("#begin").disabled = false;
    one("#import").disabled = false;
    one("#begin").focus({ preventScroll: true }); // on a narrow screen what is asked stands above, and comes first
  }

  function blocked(text) {
    trouble(text);
    show("start");
    for (const id of ["begin", "import"]) one(`#${id}`).disabled = true;
  }

  async function start() {
    one("#who").textContent = `Study ${study}, rater ${rater}, ${tasks.length} ${tasks.length === 1 ? "task" : "tasks"}. ${served ? "Each answer is sent to this workstation’s own server and nowhere else." : "Nothing is sent anywhere."}`;
    one("#keysdialog").append(one("#start .keys").cloneNode(true), element("form", { method: "dialog" }, element("button", { textContent: "Close" })));
    if (!globalThis.crypto?.subtle) return blocked("This browser cannot compute SHA-256 here (crypto.subtle is missing), so answers could not be sealed. Open the file in a current Chrome, Edge or Firefox, from disk or from 127.0.0.1.");
    tell({ opened: true });
    chain = await begun();
    try {
      chain = await closing(await verified(kept("lines")));
    } catch (error) {
      blocked(`The answers that this browser keeps do not belong to this page. ${error.message}`);
      one("#aside").hidden = false;
      one("#export").disabled = false;
      one("#export").onclick = () => save(kept("lines"));
      return undefined;
    }
    return offer();
  }

  function putAside() {
    keep(`aside/${Date.now()}`, kept("lines"));
    keep("lines", null);
    keep("draft", null);
    location.reload();
  }

  const DO = { in: () => zoom(1, null), out: () => zoom(-1, null), whole, mark: startMarking };
  for (const [name, done] of Object.entries(DO)) one(`[data-do=${name}]`).addEventListener("click", () => { wheeled = 0; done(); });
  one("[data-do=flicker]").addEventListener("pointerdown", () => setFlicker(true));
  for (const kind of ["pointerup", "pointerleave", "pointercancel"]) one("[data-do=flicker]").addEventListener(kind, () => setFlicker(false));
  one("[data-do=flicker]").addEventListener("click", (event) => { if (!event.detail) setFlicker(!flicker); }); // by keyboard: on, and off
  for (const id of ["begin", "goon"]) one(`#${id}`).addEventListener("click", go);
  one("#import").addEventListener("click", () => one("#file").click());
  one("#file").addEventListener("change", async (event) => { if (event.target.files[0]) await take(event.target.files[0]); event.target.value = ""; });
  one("#aside").addEventListener("click", putAside);
  one("#export").onclick = () => save();
  one("#deliver").addEventListener("click", () => save());
  one("#commit").addEventListener("click", commit);
  one("#help").addEventListener("click", () => one("#keysdialog").showModal());
  one("#comment input").addEventListener("input", (event) => { draft.comment = event.target.value; saveDraft(); });

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const arrow = ([dx, dy], far) => {
    if (marking) return moveCross(dx * (far ? 10 : 1), dy * (far ? 10 : 1));
    return pan((dx * panels.A.canvas.width) / 10 / view.zoom, (dy * panels.A.canvas.height) / 10 / view.zoom);
  };

  function escape() {
    if (marking) { setMarking(null); say("No mark was made."); focusCurrent(); } else if (draft.pending) dropPending();
  }

  // What a key does while a task is open; null leaves it to the browser.
  function meaning(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const digit = /^[1-9]$/.test(key) ? key : /^Digit([1-9])$/.exec(event.code)?.[1]; // digits with Shift in France
    if (event.altKey) return key === "ArrowUp" || key === "ArrowDown" ? () => step(key === "ArrowUp" ? -1 : 1) : null;
    if (ARROWS[key]) return () => arrow(ARROWS[key], event.shiftKey);
    if (marking && key === " ") return corners;
    if (marking && SIDES.includes(key.toUpperCase())) return () => chooseSide(key.toUpperCase());
    if (key === "Enter") return event.target.closest?.("#tools button, header button, #marks button") ? null : () => { if (!event.repeat) commit(); };
    if (digit) return () => { if (!event.repeat) answer(Number(digit)); };
    const zoomed = (by) => () => { wheeled = 0; zoom(by, marking && !marking.drawn ? marking : null); };
    return {
      "+": zoomed(1), "=": zoomed(1), "-": zoomed(-1), 0: () => { wheeled = 0; whole(); },
      f: () => { if (!event.repeat) setFlicker(true); },
      m: () => { if (!event.repeat) startMarking(); },
      c: () => one("#comment input").focus(),
      Delete: () => removeMark(draft.regions.length - 1),
      Backspace: () => removeMark(draft.regions.length - 1),
      Escape: escape,
    }[key] ?? null;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey) return;
    if (one("#keysdialog").open) {
      if (event.key.toLowerCase() === "h") one("#keysdialog").close();
      return;
    }
    if (event.target.matches?.("#comment input")) {
      if ((event.key === "Enter" || event.key === "Escape") && !event.isComposing) { event.preventDefault(); focusCurrent(); }
      return;
    }
    if (event.key.toLowerCase() === "h") { event.preventDefault(); one("#keysdialog").showModal(); return; }
    if (event.key === "Enter" && event.repeat) event.preventDefault();
    const done = task && meaning(event);
    if (!done) return;
    event.preventDefault();
    done();
  });
  document.addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "f") setFlicker(false); });
  window.addEventListener("blur", () => setFlicker(false));
  window.addEventListener("beforeunload", (event) => { if (!storage && !delivered) event.preventDefault(); });
  window.addEventListener("storage", (event) => {
    if (event.key === `${KEY}/window`) heard(event.newValue);
    if (event.key === `${KEY}/lines` && event.newValue !== exported()) trouble("Answers were given in another window. Reload this page; nothing is lost.");
  });
  channel?.addEventListener("message", (event) => heard(event.data));
  window.addEventListener("pagehide", () => tell({ gone: true }));
  window.srhStudy = {
    state: () => ({ answered: chain.answered, closed: chain.closed, current, view: { ...view }, flickering: flickering() || null, marking: marking && { ...marking }, draft: draft && structuredClone(draft), server }),
  };
  start();
})();
