"use strict";
// The points table and the tree of a sweep's report. All text is set as text, never as markup.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const points = data.points;
  const trials = data.trials;
  const CHUNK = 100; // rows that the browser lays out together, once they are near the screen
  const ROW = 21; // pixels of a row of the tree
  const NARROWEST = 3; // pixels of a frame that is drawn
  const LABELLED = 24; // pixels of a frame that has its name in it
  const FINDING = 0;

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // ---------------------------------------------------------------- what the data says

  const parent = [];
  const frameOf = [];
  for (let way = [], step = 0; step < data.tree.length; step++) {
    const frame = data.tree[step];
    if (frame < 0) {
      way.length += frame;
    } else {
      parent.push(way.length ? way[way.length - 1] : -1);
      way.push(frameOf.length);
      frameOf.push(frame);
    }
  }
  const nodes = frameOf.length;
  const end = new Int32Array(nodes); // the nodes below a node are those after it, up to its end
  for (let node = nodes - 1; node >= 0; node--) {
    end[node] = Math.max(end[node], node + 1);
    if (parent[node] >= 0) end[parent[node]] = Math.max(end[parent[node]], end[node]);
  }
  const number = points.node.length;
  const kinds = data.outcomes.length;
  const counts = new Int32Array((nodes + 1) * kinds); // the last is of the whole
  const all = nodes;
  for (let point = 0; point < number; point++) {
    const kind = +points.worst[point];
    counts[points.node[point] * kinds + kind]++;
    counts[all * kinds + kind]++;
  }
  for (let node = nodes - 1; node >= 0; node--) {
    if (parent[node] < 0) continue;
    for (let kind = 0; kind < kinds; kind++) counts[parent[node] * kinds + kind] += counts[node * kinds + kind];
  }
  const total = (node) => {
    let sum = 0;
    for (let kind = 0; kind < kinds; kind++) sum += counts[node * kinds + kind];
    return sum;
  };
  const firstTrial = [];
  points.trials.reduce((sum, some, point) => {
    firstTrial[point] = sum;
    return sum + some;
  }, 0);

  function frameText(frame) {
    const symbol = data.symbols[data.frames[2 * frame]];
    const offset = data.frames[2 * frame + 1];
    if (offset < 0) return symbol;
    const module = symbol.indexOf(" [");
    const name = module < 0 ? symbol : symbol.slice(0, module);
    return name + "+0x" + offset.toString(16) + (module < 0 ? "" : symbol.slice(module));
  }
  const nodeText = (node) => (node === all ? "all stack traces" : frameText(frameOf[node]));
  const idOf = (point) => points.id.substr(16 * point, 16);
  const moduleOf = (point) => points.modules[points.module[point]];
  const functionOf = (point) => {
    const text = nodeText(points.node[point]);
    const module = " [" + moduleOf(point) + "]";
    return text.endsWith(module) ? text.slice(0, -module.length) : text;
  };
  const callerOf = (point) => (parent[points.node[point]] < 0 ? "" : nodeText(parent[points.node[point]]));

  function stackOf(point) {
    const frames = [];
    for (let node = parent[points.node[point]]; node >= 0; node = parent[node]) frames.push(nodeText(node));
    return frames;
  }
  function trialsOf(point) {
    return Array.from({ length: points.trials[point] }, (_, place) => firstTrial[point] + place);
  }
  function saidOf(trial) {
    const reason = trials.reason[trial];
    return data.outcomes[+trials.outcome[trial]] + (reason ? " (" + reason + ")" : "");
  }
  const plural = (count, noun) => count + " " + noun + (count === 1 ? "" : "s");

  function tally(node) {
    const parts = [];
    for (let kind = 0; kind < kinds; kind++) {
      const count = counts[node * kinds + kind];
      if (count) parts.push(data.outcomes[kind] + " " + count);
    }
    return plural(total(node), "point") + ", " + parts.join(", ");
  }

  function copyButton(text) {
    const button = make("button", { type: "button", class: "copy" }, "Copy");
    button.addEventListener("click", async () => {
      let done = false;
      try {
        await navigator.clipboard.writeText(text());
        done = true;
      } catch (error) {
        const area = make("textarea");
        area.value = text();
        document.body.append(area);
        area.select();
        done = document.execCommand("copy");
        area.remove();
        button.focus();
      }
      button.textContent = done ? "Copied" : "Cannot copy";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    return button;
  }

  // ---------------------------------------------------------------- the table

  const list = byId("list");
  const modes = data.trials.modes.map((name, mode) => [mode, name]).filter(([mode]) => trials.mode.includes(mode));
  const worstOf = (point, mode) => {
    let worst = -1;
    for (const trial of trialsOf(point)) {
      if (+trials.mode[trial] === mode && (worst < 0 || trials.outcome[trial] < trials.outcome[worst])) worst = trial;
    }
    return worst;
  };
  const groupOf = (point) => {
    for (const trial of trialsOf(point)) if (trial in trials.group) return trials.group[trial];
    return -1;
  };
  const columns = [
    { title: "function", key: functionOf, width: "minmax(12rem, 2fr)", wide: true },
    { title: "called by", key: callerOf, width: "minmax(12rem, 3fr)", wide: true },
    { title: "module", key: moduleOf, width: "minmax(5rem, 8rem)" },
    ...modes.map(([mode, name]) => ({
      title: name,
      width: "minmax(10rem, 1fr)",
      key: (point) => {
        const worst = worstOf(point, mode);
        return worst < 0 ? kinds : +trials.outcome[worst];
      },
      cell: (point) => {
        const worst = worstOf(point, mode);
        return worst < 0 ? ["no trial", "o4"] : [saidOf(worst), "o" + trials.outcome[worst]];
      },
    })),
    { title: "hits", key: (point) => points.hits[point], width: "5rem", number: true },
    {
      title: "finding",
      width: "5rem",
      key: (point) => (groupOf(point) < 0 ? Infinity : groupOf(point)),
      link: (point) => (groupOf(point) < 0 ? null : data.digests[groupOf(point)]),
    },
  ];
  if (points.modules.length < 2) columns.splice(2, 1);
  document.documentElement.style.setProperty("--columns", columns.map((column) => column.width).join(" "));

  const wanted = { words: "", verdict: "", module: "", below: -1 };
  let sorted = { column: null, down: false };
  let order = [];
  let pending = 0;
  const rows = new Map();

  function rowOf(point) {
    if (rows.has(point)) return rows.get(point);
    const row = make("div", { class: "row data", role: "row" });
    for (const column of columns) {
      const cell = make("span", { role: "cell" });
      if (column.wide) cell.className = "wide";
      if (column === columns[0]) {
        const name = make("button", { type: "button", class: "name", "aria-expanded": "false" }, functionOf(point));
        name.addEventListener("click", () => toggle(point));
        cell.append(name);
      } else if (column.link) {
        const digest = column.link(point);
        if (digest) cell.append(make("a", { href: "#finding-" + digest }, digest));
      } else {
        const [text, style] = column.cell ? column.cell(point) : [String(column.key(point)), ""];
        if (style) cell.classList.add(style);
        if (column.number) cell.classList.add("number");
        cell.textContent = cell.title = text;
      }
      if (!column.wide && cell.childNodes.length) cell.dataset.label = column.title;
      row.append(cell);
    }
    rows.set(point, row);
    return row;
  }

  function detailsOf(point) {
    const more = make("div", { class: "more", role: "row" });
    const inside = make("div", { role: "cell" });
    inside.append(make("p", { class: "mono" }, "point " + idOf(point)));
    const facts = plural(points.hits[point], "call") + ", the first is call " + points.first[point] + " of the function";
    inside.append(make("p", {}, facts));
    if (point in points.round) {
      const [round, under] = points.round[point];
      inside.append(make("p", {}, "found in round " + round + (under ? ", in trial " + under : "")));
    }
    if (point in points.why) inside.append(make("p", {}, "It " + points.whys[points.why[point]] + "."));
    const stack = make("pre", {}, stackOf(point).join("\n"));
    inside.append(make("h4", {}, "Called by"), stack);
    const own = trialsOf(point);
    if (own.length) {
      const body = make("tbody");
      for (const trial of own) {
        const name = trials.name[trial] || idOf(point) + "-" + trials.modes[+trials.mode[trial]];
        const said = make("td", { class: "o" + trials.outcome[trial] }, saidOf(trial));
        const told = make("td");
        if (trial in trials.group) {
          told.append(make("a", { href: "#finding-" + data.digests[trials.group[trial]] }, "evidence and reproducer"), " ");
        }
        told.append(trial in trials.detail ? trials.said[trials.detail[trial]] : "");
        const fate = trials.said[trials.fate[trial]];
        if (fate) told.append(make("div", { class: "soft" }, fate));
        for (const note of trials.notes[trial] || []) told.append(make("div", { class: "soft" }, "note: " + trials.said[note]));
        const calls = make("td", { class: "number" }, String(trials.injected[trial]));
        const seconds = make("td", { class: "number" }, trials.seconds[trial] + " s");
        body.append(make("tr", {}, make("td", { class: "mono" }, name), said, calls, seconds, told));
      }
      const heads = ["trial", "verdict", "injected", "time", "said"].map((text) => make("th", {}, text));
      const table = make("table", { class: "plain" }, make("thead", {}, make("tr", {}, ...heads)), body);
      inside.append(make("h4", {}, "Trials"), make("div", { class: "scroll" }, table));
    }
    const [round, , recorded] = points.round[point] || [0, "", point]; // only what is recorded can be asked for
    const later = round ? " --rounds " + (round + 1) + data.depth : "";
    const command = data.command + later + " --only " + idOf(recorded) + " -o again-" + idOf(point);
    inside.append(make("h4", {}, "Fail it again ", copyButton(() => command)), make("pre", { class: "wrap" }, command));
    more.append(inside);
    return more;
  }

  function toggle(point, open) {
    const row = rowOf(point);
    const name = row.querySelector(".name");
    const isOpen = name.getAttribute("aria-expanded") === "true";
    if (isOpen === open) return;
    name.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) row.nextElementSibling.remove();
    else row.after(detailsOf(point));
  }

  function matching() {
    const words = wanted.words.toLowerCase().split(/\s+/).filter(Boolean);
    const [from, to] = wanted.below < 0 ? [0, nodes] : [wanted.below, end[wanted.below]];
    const hits = words.map((word) => {
      const frames = new Map();
      const inNode = new Uint8Array(nodes);
      for (let node = 0; node < nodes; node++) {
        const frame = frameOf[node];
        if (!frames.has(frame)) frames.set(frame, frameText(frame).toLowerCase().includes(word));
        inNode[node] = frames.get(frame) || (parent[node] >= 0 && inNode[parent[node]]) ? 1 : 0;
      }
      return (point) => inNode[points.node[point]] || idOf(point).startsWith(word) || moduleOf(point).toLowerCase() === word;
    });
    const found = [];
    for (let point = 0; point < number; point++) {
      const node = points.node[point];
      if (node < from || node >= to) continue;
      if (wanted.verdict !== "" && !hasVerdict(point, wanted.verdict)) continue;
      if (wanted.module !== "" && points.module[point] !== +wanted.module) continue;
      if (hits.every((hit) => hit(point))) found.push(point);
    }
    return found;
  }
  const hasVerdict = (point, kind) =>
    points.worst[point] === kind || trialsOf(point).some((trial) => trials.outcome[trial] === kind);

  function arrange() {
    order = matching();
    if (sorted.column) {
      const keys = new Map(order.map((point) => [point, sorted.column.key(point)]));
      const sign = sorted.down ? -1 : 1;
      order.sort((a, b) => {
        const [x, y] = [keys.get(a), keys.get(b)];
        return (x < y ? -1 : x > y ? 1 : 0) * sign || a - b;
      });
    }
    for (const row of rows.values()) {
      if (row.querySelector(".name").getAttribute("aria-expanded") === "true") {
        row.querySelector(".name").setAttribute("aria-expanded", "false");
      }
    }
    list.querySelectorAll(".chunk").forEach((chunk) => chunk.remove());
    byId("shown").textContent =
      order.length === number ? plural(number, "point") : order.length + " of " + plural(number, "point");
    clearTimeout(pending);
    append(0, 1);
  }

  // The first rows at once, the others when there is time: the page is there before 5,000 rows are.
  function append(from, chunks) {
    let at = from;
    for (let some = 0; some < chunks && at < order.length; some++, at += CHUNK) {
      list.append(make("div", { class: "chunk", role: "rowgroup" }, ...order.slice(at, at + CHUNK).map(rowOf)));
    }
    pending = at < order.length ? setTimeout(append, 0, at, 5) : 0;
    return at;
  }
  function finish() {
    if (!pending) return;
    clearTimeout(pending);
    append(list.querySelectorAll(".row.data").length, Infinity);
  }

  function head() {
    const row = make("div", { class: "row head", role: "row" });
    for (const column of columns) {
      const button = make("button", { type: "button" }, column.title);
      const cell = make("span", { role: "columnheader", "aria-sort": "none" }, button);
      if (column.number) cell.className = "number";
      if (column.wide) cell.className = "wide";
      button.addEventListener("click", () => {
        const again = sorted.column === column;
        sorted = again && sorted.down ? { column: null, down: false } : { column, down: again };
        for (const [place, other] of columns.entries()) {
          const here = other === sorted.column;
          const mark = here ? (sorted.down ? " \u25bc" : " \u25b2") : "";
          row.children[place].setAttribute("aria-sort", here ? (sorted.down ? "descending" : "ascending") : "none");
          row.children[place].firstChild.textContent = other.title + mark;
        }
        arrange();
      });
      row.append(cell);
    }
    return row;
  }

  function option(select, value, text) {
    select.append(make("option", { value }, text));
  }

  function showBelow(node) {
    wanted.below = node === all ? -1 : node;
    const button = byId("below");
    button.hidden = wanted.below < 0;
    if (wanted.below >= 0) button.textContent = "below " + nodeText(node) + " \u2715";
    arrange();
  }

  function showPoint(id) {
    const point = points.id.indexOf(id);
    if (id.length !== 16 || point < 0 || point % 16) return;
    finish();
    if (!order.includes(point / 16)) {
      Object.assign(wanted, { words: "", verdict: "", module: "" });
      for (const control of ["words", "verdict", "module"]) byId(control).value = "";
      showBelow(all);
      finish();
    }
    toggle(point / 16, true);
    const name = rowOf(point / 16).querySelector(".name");
    name.scrollIntoView({ block: "center" });
    name.focus({ preventScroll: true });
  }
  function followHash() {
    if (location.hash.startsWith("#p-")) showPoint(location.hash.slice(3));
  }

  function startTable() {
    list.append(head());
    for (let kind = 0; kind < kinds; kind++) {
      if ([...points.worst].includes(String(kind)) || trials.outcome.includes(kind)) {
        option(byId("verdict"), String(kind), data.outcomes[kind]);
      }
    }
    points.modules.forEach((name, module) => option(byId("module"), String(module), name));
    byId("module").hidden = points.modules.length < 2;
    for (const control of ["words", "verdict", "module"]) {
      byId(control).addEventListener(control === "words" ? "input" : "change", () => {
        wanted[control] = byId(control).value;
        arrange();
      });
    }
    byId("below").addEventListener("click", () => showBelow(all));
    list.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step || !event.target.classList.contains("name")) return;
      const names = [...list.querySelectorAll(".name")];
      const next = names[names.indexOf(event.target) + step];
      if (next) {
        event.preventDefault();
        next.focus();
      }
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
        event.preventDefault();
        byId("words").focus();
      }
    });
    addEventListener("beforeprint", finish);
    addEventListener("hashchange", followHash);
    byId("table").hidden = false;
    arrange();
  }

  // ---------------------------------------------------------------- the tree

  const icicle = byId("icicle");
  let zoomed = all;
  let drawn = [];

  function childrenOf(node) {
    const found = [];
    const [from, to] = node === all ? [0, nodes] : [node + 1, end[node]];
    for (let child = from; child < to; child = end[child]) found.push(child);
    const findings = (one) => counts[one * kinds + FINDING];
    return found.sort((a, b) => findings(b) - findings(a) || total(b) - total(a) || a - b);
  }

  // Each verdict has its share of the width, the worst at the left, where its own frames are below.
  function paint(element, node) {
    const stops = [];
    let at = 0;
    for (let kind = 0; kind < kinds; kind++) {
      const share = (100 * counts[node * kinds + kind]) / total(node);
      if (share) stops.push(`var(--f${kind}) ${at}% ${at + share}%`);
      at += share;
    }
    element.style.background = stops.length ? `linear-gradient(90deg, ${stops.join(", ")})` : "none";
  }

  function place(node, left, width, level, up) {
    const label = nodeText(node);
    const element = make("div", { class: "node", role: "treeitem", tabindex: "-1", "aria-level": level + 1 });
    element.setAttribute("aria-label", label + ": " + tally(node));
    const findings = counts[node * kinds + FINDING];
    if (width >= LABELLED) element.textContent = findings ? label + " \u00b7 " + plural(findings, "finding") : label;
    Object.assign(element.style, { left: left + "px", width: width + "px", top: level * ROW + "px" });
    paint(element, node);
    const one = { node, element, level, up, first: null };
    element.addEventListener("click", () => zoom(node));
    element.addEventListener("mouseenter", () => tell(node));
    element.addEventListener("focus", () => tell(node));
    element.addEventListener("keydown", (event) => move(event, one));
    drawn.push(one);
    if (up && !up.first) up.first = one;
    return one;
  }

  function draw() {
    drawn = [];
    const width = icicle.clientWidth;
    const path = [];
    for (let node = zoomed; node !== all; node = parent[node] < 0 ? all : parent[node]) path.unshift(node);
    path.unshift(all);
    let up = null;
    path.forEach((node, level) => {
      up = place(node, 0, width, level, up);
      if (node !== zoomed) up.element.classList.add("above");
    });
    const waiting = [[up, 0, width]];
    let deepest = up.level;
    while (waiting.length) {
      const [one, from, room] = waiting.shift();
      let left = from;
      for (const child of childrenOf(one.node)) {
        const share = (room * total(child)) / total(one.node);
        if (share >= NARROWEST || counts[child * kinds + FINDING]) {
          const below = place(child, left, Math.max(share, NARROWEST), one.level + 1, one);
          deepest = Math.max(deepest, below.level);
          waiting.push([below, left, share]);
        }
        left += share;
      }
    }
    icicle.replaceChildren(...drawn.map((one) => one.element));
    icicle.style.height = (deepest + 1) * ROW + "px";
    up.element.tabIndex = 0;
    byId("out").disabled = zoomed === all;
    tell(zoomed);
  }

  function tell(node) {
    byId("told").textContent = nodeText(node) + ": " + tally(node);
  }

  function zoom(node) {
    zoomed = node;
    draw();
    drawn.find((one) => one.node === node).element.focus({ preventScroll: true });
  }
  const zoomOut = () => zoom(zoomed === all || parent[zoomed] < 0 ? all : parent[zoomed]);
  function showPoints(node) {
    showBelow(node);
    byId("points").scrollIntoView();
    byId("words").focus({ preventScroll: true });
  }

  function move(event, one) {
    const row = drawn.filter((other) => other.level === one.level);
    const beside = (step) => row[row.indexOf(one) + step];
    const actions = {
      ArrowUp: () => one.up,
      ArrowDown: () => one.first,
      ArrowLeft: () => beside(-1),
      ArrowRight: () => beside(1),
      Enter: () => zoom(one.node),
      " ": () => zoom(one.node),
      Escape: zoomOut,
      Backspace: zoomOut,
      p: () => showPoints(one.node),
    };
    if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const next = actions[event.key]();
    if (next) next.element.focus();
  }

  function startTree() {
    for (let kind = 0; kind < kinds; kind++) {
      const count = counts[all * kinds + kind];
      if (!count) continue;
      const key = make("span", { class: "key" });
      key.style.background = `var(--f${kind})`;
      byId("keys").append(make("span", {}, key, data.outcomes[kind] + " (" + count + ")"));
    }
    byId("out").addEventListener("click", zoomOut);
    byId("these").addEventListener("click", () => showPoints(zoomed));
    byId("tree").hidden = false;
    document.querySelector('nav a[href="#tree"]').hidden = false;
    let asked = 0;
    addEventListener("resize", () => {
      cancelAnimationFrame(asked);
      asked = requestAnimationFrame(draw);
    });
    draw();
  }

  for (const block of document.querySelectorAll("pre.copied")) {
    block.previousElementSibling.append(copyButton(() => block.textContent));
  }
  startTable();
  if (number) startTree();
  followHash();
})();
