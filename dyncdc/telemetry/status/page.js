"use strict";
const EVERY_MS = 2000, SOON_MS = 700, AFTER_FAILURE_MS = 4000, GIVE_UP_MS = 10000;
const $ = (id) => document.getElementById(id);

// Everything from outside becomes text of an element made here: never markup.
function make(name, options = {}, ...children) {
  const made = document.createElement(name);
  if (options.class) made.className = options.class;
  if (options.title) made.title = options.title;
  if (options.scope) made.scope = options.scope;
  for (const child of children) if (child !== null && child !== undefined) made.append(child);
  return made;
}
// What stands between backticks is a command.
const prose = (text) => text.split("`").map((part, i) => i % 2 ? make("code", {}, part) : part);
const count = (n) => Math.round(n).toLocaleString("en");
const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;
// [field, column] of what is shown of a table, a shard and dead letters: the model says it.
const COLUMNS = {} /* columns */;
const STEPS_SHOWN = 72, OLD_SECONDS = 15;
const known = (x) => x !== null && x !== undefined;

function duration(seconds) {
  if (!known(seconds)) return "unknown";
  if (seconds < 0) return `-${duration(-seconds)}`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} d`;
}
function rate(x) { return x > 0 && x < 10 ? x.toFixed(1) : count(x); }
function bytes(n) { return `${(n / 1048576).toFixed(n < 10485760 ? 1 : 0)} MiB`; }
function instant(seconds) { return `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`; }
function ago(seconds, now) { return `${duration(Math.max(0, now - seconds))} ago`; }
function severity({ warn, bad }, x) {
  if (!known(warn)) return "";
  const sign = known(bad) && bad < warn ? -1 : 1;
  return known(bad) && sign * x > sign * bad ? "bad" : sign * x > sign * warn ? "warn" : "";
}
// Text, class and title of a field.
function cell(row, [field, column], now) {
  const x = row[field];
  if (!known(x) || x === "") return [column.empty, "", column.title];
  switch (column.kind) {
    case "snapshot": return [snapshot(row), x === "failed" ? "bad" : ""];
    case "count": return [count(x), severity(column, x), column.title];
    case "seconds": return [duration(x), severity(column, x), column.title];
    case "since": return [`${duration(x)} ago`, severity(column, x), column.title];
    case "time": return [ago(x, now), severity(column, now - x), instant(x)];
    default: return [x, "", column.title];
  }
}

function facts(list, pairs) {
  for (const [name, value, kind, title] of pairs) {
    list.append(make("dt", {}, name), make("dd", { class: kind, title }, value));
  }
  return list;
}

const SVG = "http://www.w3.org/2000/svg";
function path(kind, values, most, close) {
  const drawn = document.createElementNS(SVG, "path");
  const step = 100 / (STEPS_SHOWN - 1), first = 100 - step * (values.length - 1);
  const points = values.map((value, i) => `${(first + i * step).toFixed(2)},${(38 - 36 * value / most).toFixed(2)}`);
  if (points.length) drawn.setAttribute("d", close ? `M${first.toFixed(2)},40L${points.join("L")}L100,40Z` : `M${points.join("L")}`);
  drawn.setAttribute("class", kind);
  return drawn;
}
function plot(table) {
  const { read, written, step_seconds: step } = table.plot;
  const most = Math.max(0, ...read, ...written), reads = read.at(-1) || 0, writes = written.at(-1) || 0;
  const minutes = Math.round(STEPS_SHOWN * step / 60);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 40");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Rows per second of the last ${minutes} minutes: ${rate(reads)} read and ` +
    `${rate(writes)} written now, at most ${rate(most)}`);
  const scale = most || 1;
  svg.append(path("under", written, scale, true), path("read", read, scale), path("written", written, scale));
  return make("figure", {},
    make("figcaption", {}, make("span", { class: "key read" }, `${rate(reads)}/s read`),
      make("span", { class: "key written" }, `${rate(writes)}/s written`)),
    svg,
    make("p", { class: "below" }, make("span", {}, `${minutes} min ago`),
      make("span", {}, `at most ${rate(most)}/s`), make("span", {}, "now")));
}

const loading = (table) => known(table.snapshot_ratio) && table.snapshot_ratio < 1 && table.snapshot !== "failed";
function snapshot(table) {
  return loading(table) ? `${table.snapshot} ${Math.floor(table.snapshot_ratio * 100)} %` : table.snapshot;
}
function bar(ratio) {
  const inner = make("div"), outer = make("div", { class: "bar" }, inner);
  inner.style.width = `${(ratio * 100).toFixed(1)}%`;
  outer.setAttribute("role", "progressbar");
  outer.setAttribute("aria-label", "snapshot");
  outer.setAttribute("aria-valuemin", "0");
  outer.setAttribute("aria-valuemax", "100");
  outer.setAttribute("aria-valuenow", String(Math.floor(ratio * 100)));
  return outer;
}
function card(table, now) {
  const list = facts(make("dl"), COLUMNS.tables.map((column) => [column[1].label, ...cell(table, column, now)]));
  const to = `to ${table.destination}${table.history ? ` and ${table.history}` : ""} from stream ${table.stream}`;
  return make("article", { class: "card" }, make("h3", {}, table.table), make("p", { class: "to" }, to),
    loading(table) ? bar(table.snapshot_ratio) : null, list, plot(table));
}

function grid(caption, columns, rows, now) {
  const head = make("tr"), number = (column) => column.kind === "text" ? "" : "number";
  for (const [, column] of columns) head.append(make("th", { class: number(column), scope: "col" }, column.label));
  const body = make("tbody");
  for (const row of rows) {
    const line = make("tr");
    columns.forEach((column, i) => {
      const [text, kind] = cell(row, column, now);
      const classes = [number(column[1]), kind].filter(Boolean).join(" ");
      line.append(i === 0 ? make("th", { class: classes, scope: "row" }, text) : make("td", { class: classes }, text));
      line.lastChild.dataset.head = column[1].label;
    });
    body.append(line);
  }
  const table = make("table", {}, make("thead", {}, head), body);
  table.setAttribute("aria-label", caption);
  return table;
}

function shards(found, now) {
  const states = Object.entries(found.states).filter(([, n]) => n).map(([state, n]) => `${count(n)} ${state}`);
  const notes = [states.join(", ") || "none yet"];
  if (found.behind) notes.push(`${count(found.behind)} more than a minute behind`);
  if (found.expiring) notes.push(`${count(found.expiring)} with unread data that expires within the hour`);
  if (found.read > found.worst.length) notes.push(`the worst ${found.worst.length} of ${count(found.read)} are shown`);
  $("shards-note").textContent = `${notes.join("; ")}.`;
  $("shards").hidden = !found.worst.length;
  $("shards").replaceChildren(grid("Shards, the worst first", COLUMNS.shards, found.worst, now));
}

// ClickHouse is asked only while somebody looks: the first answer may be an old one.
function asOf(doc) {
  const at = doc.clickhouse.read_at;
  return at && doc.now - at > OLD_SECONDS ? ` (As of ${ago(at, doc.now)}.)` : "";
}
function letters(doc) {
  const total = doc.dead_letters_total;
  const words = (!known(total)
    ? `ClickHouse has not been asked yet; ${count(doc.dead_letters_since_start)} since the start.`
    : total ? `${count(total)} open. See them with \`dyncdc dead-letters list\`, then replay or drop them.` : "None open.") + asOf(doc);
  $("letters-note").replaceChildren(...prose(words));
  $("letters").hidden = !doc.dead_letters.length;
  $("letters").replaceChildren(grid("Open dead letters", COLUMNS.dead_letters, doc.dead_letters, doc.now));
}

function gaps(doc) {
  $("gaps-note").textContent = (!known(doc.gaps_total) ? "ClickHouse has not been asked yet."
    : !doc.gaps_total ? "None: nothing was lost that a snapshot has not brought back."
    : doc.gaps_total > doc.gaps.length ? `${count(doc.gaps_total)} open, ${doc.gaps.length} shown.` : "") + asOf(doc);
  $("gaps").replaceChildren(...doc.gaps.map((gap) => make("li", {},
    make("b", { class: gap.accepted ? "warn" : "bad" }, gap.table),
    make("span", { class: "when" }, `  noticed ${ago(gap.noticed_at, doc.now)}${gap.accepted ? ", accepted" : ""}`),
    make("p", {}, gap.words),
    make("p", { class: "todo" }, gap.accepted ? "Nothing is done about it until a snapshot is asked for: " : "A fresh snapshot closes it; where none is loading: ",
      make("code", {}, `dyncdc snapshot ${gap.table}`)))));
}

function recentErrors(doc) {
  $("troubles-note").textContent = doc.troubles.length ? "" : "None since the start.";
  $("troubles").replaceChildren(...doc.troubles.map((t) => make("li", {},
    make("b", { class: t.level === "warning" ? "warn" : "bad" }, t.event),
    make("span", { class: "when" }, `  ${t.where ? `${t.where}, ` : ""}${ago(t.last_at, doc.now)}${t.count > 1 ? `, ${count(t.count)} times since ${instant(t.first_at)}` : ""}`),
    t.error ? make("p", {}, ...prose(t.error)) : null,
    t.hint ? make("p", { class: "todo" }, ...prose(t.hint)) : null)));
}

function alarms(doc) {
  const said = new Set();  // the same advice once, however many tasks it is for
  const found = doc.stuck.map((task) => {
    const todo = said.has(task.todo) ? "" : task.todo;
    said.add(todo);
    return make("div", { class: "banner bad" },
      make("b", {}, `${task.task}${task.seconds >= 1 ? ` has not moved for ${duration(task.seconds)}` : ""}`),
      make("span", {}, ...prose(task.reason)), todo ? make("p", { class: "todo" }, ...prose(todo)) : null);
  });
  for (const wait of doc.planned || []) found.push(make("div", { class: "banner" }, make("b", {}, wait.task),
    make("span", {}, `waits as planned: ${wait.reason}${wait.seconds === null ? "" : ", " + duration(wait.seconds) + " still"}`)));
  if (doc.missing.length) found.push(make("div", { class: "banner warn" }, make("b", {}, "Starting"),
    make("span", {}, `not yet: ${doc.missing.join(", ")}`)));
  if (doc.clickhouse.error) {
    const at = doc.clickhouse.read_at;
    found.push(make("div", { class: "banner warn" }, make("b", {}, "ClickHouse does not tell"),
      make("span", {}, `${doc.clickhouse.error}. Rows stored, dead letters and gaps are ${at ? `as of ${ago(at, doc.now)}` : "unknown"}.`)));
  }
  if (doc.gaps.some((gap) => !gap.accepted)) found.push(make("div", { class: "banner bad" },
    make("b", {}, "Changes were lost"), make("span", {}, "see Gaps below")));
  for (const table of doc.tables) if (table.snapshot === "failed") found.push(make("div", { class: "banner bad" },
    make("b", {}, `The snapshot of ${table.table} failed`), make("span", {}, "see the errors below; then: ", make("code", {}, `dyncdc snapshot ${table.table}`))));
  $("alarms").replaceChildren(...found);
}

function process(doc) {
  const used = doc.memory_limit_bytes ? `${bytes(doc.memory_used_bytes)} of ${bytes(doc.memory_limit_bytes)}` : "unknown";
  const pairs = [["version", doc.version], ["started", `${ago(doc.started_at, doc.now)} (${instant(doc.started_at)})`], ["fetched, not yet durable", used]];
  if (doc.workers.length) pairs.push(["workers", doc.workers.map((w) => `${w.worker} ${w.state}`).join(", ")],
    ["restarts of workers", count(doc.restarts), doc.restarts ? "warn" : ""]);
  if (doc.members.length > 1) pairs.push(["members", doc.members.map((m) => `${m.member} ${m.alive ? "alive" : `not running, seen ${duration(m.seen_seconds)} ago`}`).join(", "),
    doc.members.every((m) => m.alive) ? "" : "warn"]);
  const list = $("process");
  list.replaceChildren();
  facts(list, pairs);
}

const WORDS = { healthy: ["healthy", "good"], starting: ["starting", "warn"], stuck: ["stuck", "bad"] };
function draw(doc) {
  const shared = !["0/1", ""].includes(doc.member);
  $("pipeline").textContent = doc.pipeline + (shared ? `, member ${doc.member}` : "");
  const [word, kind] = WORDS[doc.state] || [doc.state, "warn"];
  // Screen readers hear the state when it changes only.
  if ($("state").textContent !== word) $("state").textContent = word;
  $("state").className = `state ${kind}`;
  document.title = `${word === "healthy" ? "" : `${word}: `}${doc.pipeline} - dyncdc`;
  $("about").textContent = `${plural(doc.tables.length, "table", "tables")}, ${plural(doc.shards.read, "shard", "shards")} read here; as of ${instant(doc.now)}`;
  alarms(doc);
  const now = doc.now;
  $("tables").replaceChildren(...doc.tables.map((table) => card(table, now)));
  shards(doc.shards, now); letters(doc); gaps(doc); recentErrors(doc); process(doc);
}

let drawnAt = null;
async function update() {
  let next = drawnAt ? EVERY_MS : SOON_MS;
  try {
    const answer = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(GIVE_UP_MS) });
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    const doc = await answer.json();
    // Who is selecting an error to copy it keeps the selection.
    if (getSelection().isCollapsed) {
      draw(doc);
      drawnAt = new Date();
    }
    $("offline").hidden = true;
    document.body.dataset.drawn = "yes";
  } catch (error) {
    next = AFTER_FAILURE_MS;
    const words = drawnAt ? `What you see is as of ${instant(drawnAt / 1000)}.` : "";
    $("offline").textContent = `The daemon does not answer (${error.message}). ${words} This page goes on asking.`;
    $("offline").hidden = false;
    $("state").textContent = "no answer";
    $("state").className = "state bad";
  }
  setTimeout(unlessHidden, next);
}
// A page that nobody sees asks nothing.
let paused = false;
function unlessHidden() {
  paused = document.hidden;
  if (!paused) update();
}
document.addEventListener("visibilitychange", () => { if (paused) unlessHidden(); });
update();
