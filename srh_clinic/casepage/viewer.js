"use strict";
// Switches layers and overlays of the case, jumps to flagged places, flickers, and shows scanned and restored side by side.
(() => {
  const data = JSON.parse(document.getElementById("case").textContent);
  const frame = data.frame;
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const TITLES = { before: "as scanned", after: "restored", difference: "difference" };
  const OVERLAYS = { none: "", steps: "image quality", trust: "trust", classes_before: "classes as scanned", classes_after: "classes after restoration", certainty: "certainty" };
  const CONTEXT_UM = 120; // what is shown of the tissue around a place
  const FLICKER_MS = 700; // well below three flashes a second

  const tiles = (layer) => ({
    width: layer.width,
    height: layer.height,
    tileSize: 512,
    minLevel: 0,
    maxLevel: layer.levels - 1,
    getTileUrl: (level, x, y) => "data:image/webp;base64," + layer.tiles[`${level}/${x}_${y}`],
    // Levels of a picture are halves rounded up, which is what OpenSeadragon expects of them too.
  });

  const open = (id, layers) => {
    const viewer = OpenSeadragon({
      id,
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: id === "viewer",
      navigatorPosition: "TOP_RIGHT",
      maxZoomPixelRatio: 8,
      visibilityRatio: 0.5,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      crossOriginPolicy: false,
    });
    viewer.layers = {};
    for (const [place, name] of layers.entries()) {
      viewer.addTiledImage({
        tileSource: tiles(data.layers[name]),
        x: 0,
        width: 1,
        index: place,
        preload: name !== "difference",
        success: (event) => { viewer.layers[name] = event.item; refresh(); },
      });
    }
    return viewer;
  };

  let layer = "after", overlay = "none", side = false, flicker = null, current = -1, marked = false, place = "";
  const main = open("viewer", ["before", "after", "difference"]);
  const second = open("second", ["after"]);
  main.maps = {};
  for (const [name, uri] of Object.entries(data.overlays)) {
    main.addSimpleImage({
      url: uri,
      x: 0,
      width: 1,
      opacity: 0,
      success: (event) => { main.maps[name] = event.item; refresh(); },
    });
  }

  // Opacity 0 keeps a layer loaded, so that switching shows it at once.
  function refresh() {
    const shown = side ? "before" : layer;
    for (const [name, item] of Object.entries(main.layers)) item.setOpacity(name === shown ? 1 : 0);
    for (const [name, item] of Object.entries(main.maps || {})) {
      item.setOpacity(name === overlay ? Number(one("#opacity").value) : 0);
      if (name === overlay) main.world.setItemIndex(item, main.world.getItemCount() - 1);
    }
  }

  // One filter for both canvases. What lies over the tissue has colours of its own: under it the image is in the SRH colours.
  let view = "srh";
  function look() {
    const coloured = view !== "srh" && overlay === "none" && (side || layer !== "difference");
    const filter = `${coloured ? `url(#view_${view}) ` : ""}contrast(${one("#contrast").value})`;
    for (const canvas of all("#viewer canvas, #second canvas")) if (!canvas.closest(".navigator")) canvas.style.filter = filter;
  }

  function say() {
    look();
    const stacked = getComputedStyle(one("#viewers")).flexDirection === "column";
    const both = stacked ? "above as scanned, below restored" : "left as scanned, right restored";
    const shown = side ? both : TITLES[layer];
    one("#status").textContent = [shown, OVERLAYS[overlay], place].filter(Boolean).join("; ");
  }

  function keys() {
    for (const key of all(".key")) key.hidden = !key.dataset.for.split(" ").some((name) => name === overlay || (name === layer && !side));
  }

  function show(name) {
    layer = name;
    one(`input[name=layer][value=${name}]`).checked = true;
    refresh(); keys(); say();
  }

  function cover(name) {
    overlay = name;
    one(`input[name=overlay][value=${name}]`).checked = true;
    refresh(); keys(); say();
  }

  function setFlicker(on) {
    clearInterval(flicker);
    flicker = on ? setInterval(() => show(layer === "after" ? "before" : "after"), FLICKER_MS) : null;
    one("[data-do=flicker]").setAttribute("aria-pressed", String(on));
    if (on) { if (side) setSide(false); show("before"); } else show("after");
  }

  function setSide(on) {
    if (on && flicker) setFlicker(false);
    side = on;
    one("#second").hidden = !on;
    one("[data-do=side]").setAttribute("aria-pressed", String(on));
    refresh(); keys(); say();
    // Both have another width now; each has to know it before one can follow the other.
    for (const viewer of [main, second]) viewer.forceResize();
  }

  // The whole slide stays whole in whatever room there is, until a reader looks closer; then the overview says where.
  let whole = true;
  function setWhole(on) {
    whole = on;
    if (main.navigator) main.navigator.element.style.visibility = on ? "hidden" : ""; // not display: it has to keep its size
    if (on && main.viewport) main.viewport.goHome(true);
  }
  const CLOSER = ["canvas-drag", "canvas-scroll", "canvas-pinch", "canvas-double-click", "canvas-key", "navigator-click", "navigator-drag", "navigator-scroll"];
  for (const viewer of [main, second]) for (const name of CLOSER) viewer.addHandler(name, () => setWhole(false));

  // Two clicks measure; the line moves with the image.
  let measuring = false, ends = [];
  function setMeasure(on) {
    measuring = on;
    ends = [];
    one("[data-do=measure]").setAttribute("aria-pressed", String(on));
    ruler();
    if (on) one("#status").textContent = "Click two points.";
  }

  function ruler() {
    const line = one("#ruler");
    line.hidden = ends.length < 2;
    if (line.hidden || !main.viewport) return;
    const [from, to] = ends.map((end) => main.viewport.pixelFromPoint(end, true));
    const um = Math.hypot(ends[1].x - ends[0].x, ends[1].y - ends[0].y) * frame.width * frame.um_per_px;
    line.style.left = `${from.x}px`;
    line.style.top = `${from.y - 1}px`;
    line.style.width = `${Math.hypot(to.x - from.x, to.y - from.y)}px`;
    line.style.transform = `rotate(${Math.atan2(to.y - from.y, to.x - from.x)}rad)`;
    line.firstElementChild.textContent = `${um < 100 ? um.toFixed(1) : um.toFixed(0)} µm`;
  }
  main.addHandler("canvas-click", (event) => {
    if (!measuring || !event.quick) return;
    if (ends.length === 2) ends = [];
    ends.push(main.viewport.pointFromPixel(event.position));
    ruler();
    if (ends.length === 2) one("#status").textContent = `Measured: ${one("#ruler span").textContent}`;
  });
  for (const name of ["animation", "update-viewport", "resize"]) main.addHandler(name, ruler);

  let following = false;
  function follow(from, to, now = false) {
    if (following || !side || !from.viewport || !to.viewport) return;
    following = true;
    to.viewport.zoomTo(from.viewport.getZoom(), null, now);
    to.viewport.panTo(from.viewport.getCenter(), now);
    following = false;
  }
  for (const [from, to] of [[main, second], [second, main]]) {
    from.addHandler("viewport-change", () => follow(from, to, true));
    // OpenSeadragon scales the zoom after this event.
    from.addHandler("resize", () => setTimeout(() => { if (whole) setWhole(true); follow(main, second, true); say(); }, 0));
  }

  function jump(button) {
    const [x, y, width, height] = button.dataset.box.split(" ").map((edge) => Number(edge) / frame.width);
    const box = new OpenSeadragon.Rect(x, y, width, height);
    for (const other of all("[aria-current]")) other.removeAttribute("aria-current");
    button.setAttribute("aria-current", "true");
    const seen = Math.max(1.4 * width, 1.4 * height, CONTEXT_UM / frame.um_per_px / frame.width);
    const wide = new OpenSeadragon.Rect(x + (width - seen) / 2, y + (height - seen) / 2, seen, seen);
    for (const viewer of [main, second]) {
      if (marked) viewer.removeOverlay(`mark-${viewer.id}`);
      const mark = document.createElement("div");
      mark.id = `mark-${viewer.id}`;
      mark.className = "flag";
      viewer.addOverlay({ element: mark, location: box });
    }
    marked = true;
    setWhole(false);
    main.viewport.fitBounds(wide, matchMedia("(prefers-reduced-motion: reduce)").matches);
    place = button.textContent.trim().replace(/\s+/g, " ");
    say();
  }

  function step(by) {
    const places = all("#flagged button");
    if (!places.length) return;
    current = (current + by + places.length) % places.length;
    places[current].focus();
    jump(places[current]);
  }

  const DO = {
    in: () => { setWhole(false); main.viewport.zoomBy(1.5); },
    out: () => { setWhole(false); main.viewport.zoomBy(1 / 1.5); },
    home: () => setWhole(true),
    flicker: () => setFlicker(!flicker),
    side: () => setSide(!side),
    measure: () => setMeasure(!measuring),
  };
  for (const button of all("[data-do]")) button.addEventListener("click", () => DO[button.dataset.do]());
  for (const input of all("input[name=layer]")) input.addEventListener("change", () => { if (side) setSide(false); if (flicker) setFlicker(false); show(input.value); });
  for (const input of all("input[name=overlay]")) input.addEventListener("change", () => cover(input.value));
  for (const button of all("[data-box]")) button.addEventListener("click", () => {
    current = all("#flagged button").indexOf(button);
    jump(button);
  });

  for (const input of all("input[name=view]")) input.addEventListener("change", () => { view = input.value; say(); });
  one("#contrast").addEventListener("input", look);
  one("#opacity").addEventListener("input", refresh);

  const LAYER_KEYS = { 1: "before", 2: "after", 3: "difference" };
  const OVERLAY_KEYS = { 4: "none", 5: "steps", 6: "trust", 7: "classes_before", 8: "classes_after", 9: "certainty" };
  const KEYS = { f: DO.flicker, s: DO.side, m: DO.measure, n: () => step(1), p: () => step(-1), "+": DO.in, "=": DO.in, "-": DO.out, 0: DO.home };
  // Before the viewer's own keys, which would pan on S and flip on F.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (LAYER_KEYS[key]) { if (side) setSide(false); if (flicker) setFlicker(false); show(LAYER_KEYS[key]); }
    else if (OVERLAY_KEYS[key] && (data.overlays[OVERLAY_KEYS[key]] || key === "4")) cover(OVERLAY_KEYS[key]);
    else if (KEYS[key]) KEYS[key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);

  function scalebar() {
    if (!main.viewport) return;
    const screen = main.viewport.getZoom(true) * main.viewport.getContainerSize().x; // px that the picture's width takes
    const um = frame.um_per_px * frame.width / screen;
    const most = um * Math.min(main.viewport.getContainerSize().x / 4, 240);
    const power = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].map((n) => n * power).find((n) => n <= most);
    const bar = one("#scalebar span");
    bar.style.width = `${length / um}px`;
    bar.textContent = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
  }
  main.addHandler("animation", scalebar);
  main.addHandler("update-viewport", scalebar);
  main.addHandler("resize", scalebar);
  keys(); say();
  setSide(true);
  for (const viewer of [main, second]) viewer.world.addHandler("add-item", () => { if (whole) setWhole(true); });
  window.srhCase = { main, second, state: () => ({ layer, overlay, side, flicker: Boolean(flicker) }) };
})();
