// The start of the page: who looks at it, and which view that person gets.
import { $, button } from "./dom.js";
import { LabView } from "./lab.js";
import { get } from "./net.js";
import { ReplayView } from "./replay.js";
import { ReportView, TeacherView } from "./teacher.js";

let view = null;
let me = null;

export function status(good, text) {
  $("pulse").className = `dot ${good ? "good" : "bad"}`;
  $("status").textContent = text;
}

function place() {
  const values = new URLSearchParams(location.hash.slice(1));
  return { view: values.get("view") || (me.teacher ? "class" : "lab"), team: values.get("team") || me.team || me.teams[0] };
}

function links(current) {
  const shown = me.teacher
    ? [["class", "Class"], ["lab", "Lab"], ["replay", "Recordings"], ["report", "Report"]]
    : [["lab", "Lab"], ["replay", "Recordings"]];
  $("views").replaceChildren(...shown.map(([name, text]) => {
    const made = button(text, "", () => { location.hash = new URLSearchParams({ view: name, team: current.team }); });
    made.setAttribute("aria-pressed", String(name === current.view));
    return made;
  }));
}

function show() {
  view?.stop();
  const current = place();
  links(current);
  $("main").replaceChildren();
  $("main").className = `view-${current.view}`;
  $("activity").replaceChildren();
  delete $("activity").dataset.key;
  $("problems").replaceChildren();
  $("clock").hidden = $("recorded").hidden = true;
  const kinds = { class: TeacherView, report: ReportView, replay: ReplayView, lab: LabView };
  view = new (kinds[current.view] || LabView)($("main"), me, current.team, status);
}

async function start() {
  try {
    me = await get("/api/me");
  } catch (error) {
    status(false, error.message);
    setTimeout(start, 2000);
    return;
  }
  window.addEventListener("hashchange", show);
  show();
}

start();
