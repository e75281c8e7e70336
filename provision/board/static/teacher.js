// The teacher's views: the class as a table that is always current, and the report.
import { $, ago, button, duration, element, render } from "./dom.js";
import { get, Live, post } from "./net.js";

export class TeacherView {
  constructor(main, me, team, status) {
    Object.assign(this, { me, main, offset: 0 });
    $("heading").replaceChildren(me.title, element("small", "", "teacher"));
    document.title = `${me.title}: teacher`;
    this.choice = element("select");
    this.choice.setAttribute("aria-label", "Drill");
    get("/api/drills", { team: me.teams[0] }).then(({ drills }) => {
      this.choice.replaceChildren(...drills.map((one) => {
        const option = element("option", "", `${one.level} · ${one.title} (${one.minutes} min)`);
        option.value = one.id;
        return option;
      }));
    }, (error) => this.problem(error.message));
    this.bar = element("section", "panel bar",
      element("h2", "", "All teams"), this.choice,
      button("Start for all", "primary", () => { if (confirm("Start this drill in all labs?")) this.act("*", "start", { drill: this.choice.value }); }),
      button("Hint to all", "", () => this.act("*", "hint")),
      button("Finish all", "", () => { if (confirm("End the drill of every team?")) this.act("*", "finish"); }),
      button("Record all", "", () => this.record("*", true)),
      button("Stop recording", "", () => this.record("*", false)));
    this.bar.setAttribute("aria-label", "All teams");
    this.table = element("section", "panel class");
    this.table.setAttribute("aria-label", "Teams");
    main.append(this.bar, this.table);
    this.live = new Live("/ws/class", {}, (doc) => this.show(doc), status);
    this.timer = setInterval(() => this.doc && this.show(this.doc), 5000);
  }

  stop() {
    clearInterval(this.timer);
    this.live.stop();
  }

  problem(text) {
    const made = element("p", "notice bad", element("span", "what", text), button("Close", "quiet", () => made.remove()));
    $("problems").append(made);
    setTimeout(() => made.remove(), 20000);
  }

  async act(team, kind, values = {}) {
    try {
      const { refused } = await post("/api/act", { kind, team, ...values });
      for (const [name, text] of Object.entries(refused)) this.problem(`${name}: ${text}`);
    } catch (error) {
      this.problem(error.message);
    }
  }

  async record(team, on) {
    try {
      await post("/api/recording", { team, on });
    } catch (error) {
      this.problem(error.message);
    }
  }

  show(doc) {
    if (doc !== this.doc) this.offset = doc.now - Date.now() / 1000;
    this.doc = doc;
    const now = Date.now() / 1000 + this.offset;
    const shown = doc.teams.map((team) => ({ ...team, active: team.active ? ago(now - team.active) : "" , left: this.left(team, now) }));
    render(this.table, shown, () => {
      const head = ["Team", "Lab", "Drill", "Proofs", "Hints", "Checks", "Active", ""].map((text) => element("th", "", text));
      return element("table", "", element("thead", "", element("tr", "", ...head)), element("tbody", "", ...shown.map((team) => this.row(team))));
    });
  }

  left(team, now) {
    const drill = team.drill;
    if (!drill) return "";
    if (drill.ended) return drill.outcome;
    if (drill.solved) return `solved in ${duration(drill.solved - drill.started)}`;
    if (!drill.begun) return "being prepared";
    const left = drill.minutes * 60 - (now - drill.started);
    return left < 0 ? "time is over" : `${Math.ceil(left / 60)} min left`;
  }

  row(team) {
    const cell = (label, ...children) => {
      const made = element("td", "", ...children);
      made.dataset.label = label;
      return made;
    };
    const drill = team.drill;
    const bad = team.problem || team.running < team.machines;
    const troubled = team.problems.length || team.alerts;
    const dot = element("span", `dot ${bad ? "bad" : troubled ? "warn" : "good"}`);
    const state = team.problem || (team.running < team.machines ? `${team.running} of ${team.machines} run` : troubled ? team.problems[0] || `${team.alerts} alerts` : "healthy");
    const lab = cell("Lab", dot, ` ${state}`);
    lab.title = team.problems.join("\n");
    const name = cell("Team", element("b", "", team.team));
    if (team.recording) name.append(element("span", "bad-text", " ●"));
    const proofs = element("span", "marks");
    for (const proof of drill?.proofs || []) {
      const mark = element("i", proof.held ? "good" : proof.held === false ? "bad" : "");
      mark.title = proof.name;
      proofs.append(mark);
    }
    const held = (drill?.proofs || []).filter((proof) => proof.held).length;
    if (drill?.proofs.length) proofs.append(` ${held}/${drill.proofs.length}`);
    const activity = team.activity;
    const doing = activity?.running ? `${activity.kind}: ${activity.lines.at(-1) || "working"}` : team.testing;
    const what = cell("Drill", drill ? drill.title : "none", element("small", "", doing || team.left));
    if (activity && !activity.running && activity.error) what.append(element("small", "bad-text", `${activity.kind}: ${activity.error}`));
    const open = button(team.terminals.length ? `Watch (${team.terminals.length})` : "Open", "", () => { location.hash = new URLSearchParams({ view: "lab", team: team.team }); });
    const idle = !drill || drill.ended;
    const actions = element("div", "row", open);
    if (idle) actions.append(button("Start", "", () => this.act(team.team, "start", { drill: this.choice.value })));
    else {
      actions.append(button("Hint", "", () => this.act(team.team, "hint")));
      actions.append(button("Reset", "", () => { if (confirm(`Reset the drill of ${team.team}?`)) this.act(team.team, "reset"); }));
      actions.append(button("Finish", "", () => { if (confirm(`End the drill of ${team.team}?`)) this.act(team.team, "finish"); }));
    }
    if (activity?.running) for (const one of actions.querySelectorAll("button")) one.disabled = one !== open;
    actions.append(button(team.recording ? "Stop rec." : "Record", "quiet", () => this.record(team.team, !team.recording)));
    return element("tr", "", name, lab, what, cell("Proofs", proofs), cell("Hints", String(drill?.hints.length ?? "")), cell("Checks", String(drill?.checks ?? "")), cell("Active", team.active), cell("", actions));
  }
}

const COLUMNS = [["team", "Team"], ["lab", "Lab"], ["drill", "Drill"], ["outcome", "Outcome"], ["seconds", "Time"], ["hints", "Hints"], ["checks", "Checks"], ["assisted", "Assisted"], ["shortcuts", "Shortcuts"]];

export class ReportView {
  constructor(main, me, team, status) {
    $("heading").replaceChildren(me.title, element("small", "", "report"));
    const body = element("div");
    const link = (text, format) => {
      const made = element("a", "button", text);
      made.href = `/api/report?format=${format}`;
      made.setAttribute("download", `class-report.${format}`);
      return made;
    };
    main.append(element("section", "panel report", element("div", "head", element("h2", "", "Class report"), element("span", "row", link("CSV", "csv"), link("JSON", "json"))), body));
    get("/api/report").then(({ runs }) => {
      status(true, `${runs.length} runs`);
      const rows = runs.map((run) => element("tr", "", ...COLUMNS.map(([key]) => {
        const value = run[key];
        const text = key === "seconds" ? duration(value) : Array.isArray(value) ? value.join("; ") : value === true ? "yes" : value === false ? "" : String(value ?? "");
        return element("td", key === "outcome" ? (value === "solved" ? "good-text" : value === "running" ? "" : "bad-text") : "", text);
      })));
      const head = element("tr", "", ...COLUMNS.map(([, text]) => element("th", "", text)));
      body.replaceChildren(runs.length ? element("table", "", element("thead", "", head), element("tbody", "", ...rows)) : element("p", "soft", "No drill was started yet."));
    }, (error) => status(false, error.message));
  }

  stop() {}
}
