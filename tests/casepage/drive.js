// Does what a reader would do on the case page, and comes to what it saw.
(async () => {
  const report = {};
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const until = async (happens) => { for (let i = 0; i < 200 && !happens(); i++) await wait(50); };
  const key = (name) => document.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  await until(() => window.srhCase);
  const { main, second, state } = window.srhCase;
  report.began = state().side;
  const items = () => [...Object.values(main.layers), ...Object.values(main.maps)];
  await until(() => items().length === 7);
  const settled = async () => {
    await until(() => items().every((item) => item.getOpacity() === 0 || item.getFullyLoaded()));
    await wait(300);
  };
  const colour = () => {
    const { canvas } = main.drawer;
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const sum = [0, 0, 0];
    for (let i = 0; i < pixels.length; i += 4) for (let c = 0; c < 3; c++) sum[c] += pixels[i + c];
    return sum.map((one) => Math.round((one / pixels.length) * 40)).join(" ");
  };
  report.colours = {};
  for (const name of ["1", "2", "3", "2", "5", "6", "7", "8", "4"]) {
    key(name);
    await settled();
    report.colours[name] = colour();
  }
  const zoom = main.viewport.getZoom();
  document.querySelector("[data-do=in]").click();
  await wait(300);
  report.zoomed = main.viewport.getZoom() / zoom;
  key("0");
  key("n");
  await wait(1500);
  const [x, y, width, height] = document.querySelector("#flagged [aria-current]").dataset.box.split(" ").map(Number);
  const centre = main.viewport.getCenter();
  const edge = JSON.parse(document.getElementById("case").textContent).frame.width;
  report.jump = [centre.x * edge - x - width / 2, centre.y * edge - y - height / 2];
  report.jumped = document.getElementById("status").textContent;
  report.marks = document.querySelectorAll(".flag").length;
  key("f");
  const seen = new Set();
  for (let i = 0; i < 10; i++) { await wait(200); seen.add(state().layer); }
  report.flickered = [...seen].sort();
  key("f");
  report.still = state();
  key("s");
  await wait(800);
  report.side = {
    hidden: document.getElementById("second").hidden,
    zoom: second.viewport.getZoom() / main.viewport.getZoom(),
    apart: second.viewport.getCenter().distanceTo(main.viewport.getCenter()) * edge,
    shown: main.layers.before.getOpacity(),
  };
  main.viewport.zoomBy(2, null, true);
  await wait(300);
  report.side.followed = second.viewport.getZoom() / main.viewport.getZoom();
  key("s");
  report.scale = document.querySelector("#scalebar span").textContent;
  report.scaleLines = document.querySelector("#scalebar span").getClientRects().length;
  report.views = {};
  for (const input of document.querySelectorAll("input[name=view]")) {
    input.click();
    report.views[input.value] = getComputedStyle(document.querySelector("#viewer canvas")).filter;
  }
  document.querySelector("[data-do=measure]").click();
  for (const x of [100, 200]) main.raiseEvent("canvas-click", { quick: true, position: new OpenSeadragon.Point(x, 100) });
  report.measured = parseFloat(document.querySelector("#ruler span").textContent);
  const frame = JSON.parse(document.getElementById("case").textContent).frame;
  const [from, to] = [100, 200].map((x) => main.viewport.pointFromPixel(new OpenSeadragon.Point(x, 100)));
  report.expected = (to.x - from.x) * frame.width * frame.um_per_px;
  report.title = document.title;
  return report;
})()
