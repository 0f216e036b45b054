"use strict";
// What the page can do beyond its tables: read values off the curves, and move each finding's operating point.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const circle = (svg, kind, radius) => {
    const dot = document.createElementNS(SVG, "circle");
    dot.setAttribute("class", kind);
    dot.setAttribute("r", radius);
    svg.append(dot);
    return dot;
  };

  // Curves: the nearest point under the pointer, or from point to point with the arrow keys.
  for (const svg of document.querySelectorAll("svg[data-readings]")) {
    const lines = JSON.parse(svg.dataset.readings);
    const plot = svg.parentElement;
    const readout = plot.nextElementSibling;
    let line = 0, index = -1, dot = null;
    const say = () => {
      const [x, y, text] = lines[line].points[index];
      if (!dot) dot = circle(svg, "", 5.5);
      dot.setAttribute("class", "reading-dot " + lines[line].kind);
      dot.setAttribute("cx", x); dot.setAttribute("cy", y);
      readout.textContent = text;
    };
    svg.addEventListener("pointermove", event => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let best = Infinity;
      lines.forEach((one, number) => one.points.forEach(([x, y], place) => {
        const distance = (x - at.x) ** 2 + (y - at.y) ** 2;
        if (distance < best) { best = distance; line = number; index = place; }
      }));
      say();
    });
    plot.addEventListener("keydown", event => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      line = (line + step[0] + lines.length) % lines.length;
      index = Math.min(Math.max(index + step[1], 0), lines[line].points.length - 1);
      say();
    });
    plot.tabIndex = 0;
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-label", svg.querySelector("title").textContent + ": arrow keys read values");
    readout.setAttribute("role", "status");
    readout.textContent = "Point at a curve, or focus it and use the arrow keys, to read its values.";
    readout.hidden = false;
  }

  // Operating points: counts, rates and the dot on the ROC curve.
  const roc = document.querySelector("svg[data-chart=roc]");
  const percent = (part, whole) => (whole > 0 ? (100 * part / whole).toFixed(1) + "%" : "not defined");
  for (const panel of document.querySelectorAll("[data-points]")) {
    const points = JSON.parse(panel.dataset.points);
    const input = panel.querySelector("input");
    const show = (name, text) => { panel.querySelector("[data-show=" + name + "]").textContent = text; };
    const dot = roc ? circle(roc, "cursor " + panel.dataset.finding, 6.5) : null;
    const move = () => {
      const index = Number(input.value);
      const threshold = points.threshold[index];
      const hit = points.true[index], alarm = points.false[index];
      const missed = points.positives - hit, cleared = points.negatives - alarm;
      const shown = threshold === null ? "above every score" : threshold.toFixed(3);
      show("threshold", shown);
      show("hit", hit); show("alarm", alarm); show("missed", missed); show("cleared", cleared);
      show("sensitivity", percent(hit, points.positives));
      show("specificity", percent(cleared, points.negatives));
      show("recall", percent(hit + alarm, points.positives + points.negatives));
      show("ppv", percent(hit, hit + alarm));
      input.setAttribute("aria-valuetext", "threshold " + shown + ", sensitivity " + percent(hit, points.positives) +
        ", specificity " + percent(cleared, points.negatives));
      if (dot) {
        const at = name => Number(roc.dataset[name]);
        dot.setAttribute("cx", at("left") + (at("right") - at("left")) * alarm / points.negatives);
        dot.setAttribute("cy", at("bottom") - (at("bottom") - at("top")) * hit / points.positives);
      }
    };
    input.addEventListener("input", move);
    panel.hidden = false;
    move();
  }
})();
