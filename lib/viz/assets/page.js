"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const first = table.tBodies[0].rows[0]?.cells[column];
    const wasDown = head.getAttribute("aria-sort") === "descending";
    const wasUp = head.getAttribute("aria-sort") === "ascending";
    const up = wasDown || (!wasUp && !(first && first.classList.contains("num")));
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => {
      const cell = row.cells[column];
      return cell.dataset.v === undefined ? cell.textContent : (cell.dataset.v === "nan" ? -Infinity : Number(cell.dataset.v));
    };
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (typeof x === "number" && typeof y === "number") return x - y;
      if (typeof x !== typeof y) return typeof x === "number" ? 1 : -1;
      return x.localeCompare(y, undefined, {numeric: true});
    };
    const rows = [...table.tBodies[0].rows].sort((a, b) => up ? compare(a, b) : compare(b, a));
    table.tBodies[0].append(...rows);
  }));
}

class Player {
  constructor(root) {
    this.data = JSON.parse(root.querySelector("script").textContent);
    this.picture = root.querySelector("img");
    this.shown = this.data.tracks.map(() => true);
    this.index = this.data.start;
    this.timer = null;
    this.overlay = this.add(root.querySelector(".screen"), "canvas");
    [this.overlay.width, this.overlay.height] = this.data.size.map(v => v * 2);
    if (this.data.tracks.some(t => t.values)) this.addStrip(root);
    this.addControls(root);
    this.addLegend(root);
    new ResizeObserver(() => this.show(this.index)).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.show(this.index));
    this.show(this.index);
  }
  add(parent, tag, properties = {}) {
    const element = Object.assign(document.createElement(tag), properties);
    parent.append(element);
    return element;
  }
  addStrip(root) {
    this.strip = this.add(root, "canvas", {className: "strip", title: "Overlap with the true box, 0 to 1"});
    const seek = event => {
      const box = this.strip.getBoundingClientRect();
      this.pause();
      this.show(Math.round((event.clientX - box.left) / box.width * (this.data.frames.length - 1)));
    };
    this.strip.addEventListener("pointerdown", event => { this.strip.setPointerCapture(event.pointerId); seek(event); });
    this.strip.addEventListener("pointermove", event => { if (event.buttons) seek(event); });
  }
  addControls(root) {
    const row = this.add(root, "div", {className: "controls"});
    this.button = this.add(row, "button", {type: "button", textContent: "\u25B6", title: "Play or pause"});
    this.button.setAttribute("aria-label", "Play or pause");
    this.slider = this.add(row, "input", {type: "range", min: 0, max: this.data.frames.length - 1, value: 0});
    this.slider.setAttribute("aria-label", "Frame");
    this.label = this.add(row, "output");
    this.button.addEventListener("click", () => this.timer ? this.pause() : this.play());
    this.slider.addEventListener("input", () => { this.pause(); this.show(Number(this.slider.value)); });
  }
  addLegend(root) {
    const row = this.add(root, "div", {className: "legend"});
    this.data.tracks.forEach((track, i) => {
      const label = this.add(row, "label");
      const box = this.add(label, "input", {type: "checkbox", checked: true});
      this.add(label, "i").style.background = track.colour;
      label.append(track.name);
      box.addEventListener("change", () => { this.shown[i] = box.checked; this.show(this.index); });
    });
  }
  play() {
    if (this.index >= this.data.frames.length - 1) this.index = -1;
    this.button.textContent = "\u275A\u275A";
    this.timer = setInterval(() => {
      if (this.index >= this.data.frames.length - 1) this.pause(); else this.show(this.index + 1);
    }, 1000 / this.data.fps);
  }
  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.button.textContent = "\u25B6";
  }
  show(index) {
    this.index = Math.min(Math.max(index, 0), this.data.frames.length - 1);
    this.picture.src = "data:image/jpeg;base64," + this.data.frames[this.index];
    this.slider.value = this.index;
    this.label.textContent = "frame " + this.data.numbers[this.index];
    this.drawBoxes();
    if (this.strip) this.drawStrip();
  }
  drawBoxes() {
    const context = this.overlay.getContext("2d");
    context.setTransform(2, 0, 0, 2, 0, 0);
    context.clearRect(0, 0, ...this.data.size);
    context.lineJoin = "round";
    for (let i = this.data.tracks.length - 1; i >= 0; i--) {
      const track = this.data.tracks[i], box = track.boxes[this.index];
      if (!box || !this.shown[i]) continue;
      context.setLineDash(track.dashed ? [5, 4] : []);
      for (const [width, colour] of [[3.4, "rgba(0,0,0,.45)"], [2, track.colour]]) {
        context.lineWidth = width;
        context.strokeStyle = colour;
        context.strokeRect(...box);
      }
    }
  }
  drawStrip() {
    const ratio = devicePixelRatio || 1;
    const width = this.strip.clientWidth, height = this.strip.clientHeight;
    if (!width) return;
    this.strip.width = width * ratio;
    this.strip.height = height * ratio;
    const context = this.strip.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const last = Math.max(1, this.data.frames.length - 1);
    const x = i => 1 + i / last * (width - 2), y = v => height - 3 - v * (height - 6);
    context.scale(ratio, ratio);
    context.strokeStyle = style.getPropertyValue("--line");
    for (const level of [0, .5, 1]) { context.beginPath(); context.moveTo(0, y(level)); context.lineTo(width, y(level)); context.stroke(); }
    this.data.tracks.forEach((track, i) => {
      if (!track.values || !this.shown[i]) return;
      context.strokeStyle = track.colour;
      context.lineWidth = 1.6;
      context.beginPath();
      let pen = false;
      track.values.forEach((value, j) => {
        if (value === null) { pen = false; return; }
        pen ? context.lineTo(x(j), y(value)) : context.moveTo(x(j), y(value));
        pen = true;
      });
      context.stroke();
    });
    context.strokeStyle = style.getPropertyValue("--ink");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x(this.index), 0);
    context.lineTo(x(this.index), height);
    context.stroke();
  }
}
document.querySelectorAll(".player").forEach(root => new Player(root));
