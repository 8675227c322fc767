// Values under the pointer, to three digits. They are read back from the drawn paths: the page holds them once.
"use strict";
const WIDTH = 1000, HEIGHT = 300;

function pointsOf(path) {
  return path.getAttribute("d").slice(1).split("L").map((pair) => pair.split(" ").map(Number));
}

function written(value, percent) {
  if (percent) return (100 * value).toPrecision(3) + " %";
  const size = Math.abs(value);
  return size >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}

for (const figure of document.querySelectorAll("figure[data-first]")) {
  const { low, high, first, last } = Object.fromEntries(
    Object.entries(figure.dataset).map(([name, value]) => [name, Number(value)]));
  const logarithmic = figure.dataset.logarithmic === "1", percent = figure.dataset.percent === "1";
  const area = figure.querySelector(".area"), hair = figure.querySelector(".hair"), tooltip = figure.querySelector(".tooltip");
  const series = [...figure.querySelectorAll("path.line[data-label]")].map(
    (path) => ({ label: path.dataset.label, points: pointsOf(path) }));

  function show(event) {
    const box = area.getBoundingClientRect();
    const at = WIDTH * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const nearest = series.map(({ label, points }) => ({
      label, point: points.reduce((best, point) => Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best) }));
    const x = nearest.map(({ point }) => point[0]).reduce((best, other) => Math.abs(other - at) < Math.abs(best - at) ? other : best);
    const lines = nearest.filter(({ point }) => Math.abs(point[0] - x) < 1e-6).map(({ label, point }) => {
      const height = high - (high - low) * point[1] / HEIGHT;
      return (label && series.length > 1 ? label + " " : "") + written(logarithmic ? 10 ** height : height, percent);
    });
    hair.hidden = tooltip.hidden = false;
    hair.style.left = 100 * x / WIDTH + "%";
    tooltip.textContent = "step " + Math.round(first + (last - first) * x / WIDTH).toLocaleString("en") + ": " + lines.join(", ");
    tooltip.style.left = x < WIDTH / 2 ? 100 * x / WIDTH + "%" : "auto";
    tooltip.style.right = x < WIDTH / 2 ? "auto" : 100 - 100 * x / WIDTH + "%";
  }

  area.addEventListener("pointermove", show);
  area.addEventListener("pointerdown", show);
  area.addEventListener("pointerleave", () => { hair.hidden = tooltip.hidden = true; });
}
