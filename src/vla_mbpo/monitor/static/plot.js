// Risk against its band over time, as SVG: a line with dots, a dashed line, crosses where nothing is known.
"use strict";

const PLOT = {left: 44, right: 590, top: 12, bottom: 150, seconds: 60};

function svg(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function runs(points, index) { // of successive known values
  const found = [[]];
  for (const point of points) {
    if (point[index] === null) found.push([]);
    else found[found.length - 1].push(point);
  }
  return found.filter(run => run.length);
}

function plotRisk(target, points) {
  const shown = points.filter(point => point[0] >= -PLOT.seconds);
  const top = Math.max(1, ...shown.flatMap(point => [point[1] ?? 0, point[2] ?? 0])) * 1.1;
  const low = Math.min(0, ...shown.map(point => point[1] ?? 0));
  const x = t => PLOT.right + (PLOT.right - PLOT.left) * t / PLOT.seconds;
  const y = value => PLOT.bottom - (PLOT.bottom - PLOT.top) * (value - low) / (top - low);
  const path = (run, i) => run.map((point, n) => `${n ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[i]).toFixed(1)}`).join("");
  const parts = [
    svg("path", {class: "axis", d: `M${PLOT.left} ${PLOT.top}V${PLOT.bottom}H${PLOT.right}`}),
    svg("text", {x: 4, y: PLOT.top + 6}, top.toFixed(1)),
    svg("text", {x: 4, y: PLOT.bottom}, low.toFixed(1)),
    svg("text", {x: PLOT.left, y: 172}, `${PLOT.seconds} s ago`),
    svg("text", {x: PLOT.right, y: 172, "text-anchor": "end"}, "last look"),
  ];
  for (const run of runs(shown, 2)) parts.push(svg("path", {class: "band", d: path(run, 2)}));
  for (const run of runs(shown, 1)) parts.push(svg("path", {class: "risk", d: path(run, 1)}));
  for (const [t, risk, , alarm] of shown) {
    if (risk === null) parts.push(svg("text", {x: x(t), y: PLOT.bottom - 2, "text-anchor": "middle"}, "×"));
    else parts.push(svg("circle", {class: "dot", cx: x(t), cy: y(risk), r: 3}));
    if (alarm && risk !== null) parts.push(svg("rect", {class: "alarm", x: x(t) - 6, y: y(risk) - 6, width: 12, height: 12}));
  }
  target.replaceChildren(target.querySelector("title"), ...parts);
}
