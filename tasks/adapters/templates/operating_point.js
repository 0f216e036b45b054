"use strict";
// Moves each finding's operating point: counts, rates and the dot on the ROC curve. Without it the tables still say it all.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const roc = document.querySelector("svg[data-chart=roc]");
  const percent = (part, whole) => (whole > 0 ? (100 * part / whole).toFixed(1) + "%" : "not defined");
  for (const panel of document.querySelectorAll("[data-points]")) {
    const points = JSON.parse(panel.dataset.points);
    const input = panel.querySelector("input");
    const show = (name, text) => { panel.querySelector("[data-show=" + name + "]").textContent = text; };
    let dot = null;
    if (roc) {
      dot = document.createElementNS(SVG, "circle");
      dot.setAttribute("class", "cursor " + panel.dataset.finding);
      dot.setAttribute("r", "6.5");
      roc.append(dot);
    }
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
