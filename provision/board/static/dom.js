// Makes elements. Texts are set as texts, and Markdown comes as nodes: nothing is parsed as HTML.

export const $ = (id) => document.getElementById(id);

export function element(tag, classes = "", ...children) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  made.append(...children);
  return made;
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function button(text, classes, action) {
  const made = element("button", classes, text);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

// Replaces the children only when the values have changed: focus and selection stay.
export function render(target, values, make) {
  const key = JSON.stringify(values);
  if (target.dataset.key === key) return false;
  target.dataset.key = key;
  target.replaceChildren(...[make()].flat());
  return true;
}

const TAGS = new Set(["p", "h3", "h4", "h5", "ul", "ol", "li", "em", "strong", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "span"]);

// Elements for the nodes of a Markdown text. "command" makes an element for a line of code.
export function markdown(nodes, command) {
  return nodes.map((node) => {
    if (typeof node === "string") return document.createTextNode(node);
    const [kind, ...children] = node;
    if (kind === "br" || kind === "hr") return element(kind);
    if (kind === "code") return command(children[0]);
    if (kind === "pre") {
      const block = element("pre");
      children[0].split("\n").forEach((line, at) => {
        if (at) block.append("\n");
        block.append(line.trim() ? command(line) : line);
      });
      return block;
    }
    return element(TAGS.has(kind) ? kind : "span", "", ...markdown(children, command));
  });
}

export function duration(seconds) {
  const whole = Math.abs(Math.round(seconds));
  const text = `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  return seconds < 0 ? `-${text}` : text;
}

export function ago(seconds) {
  if (seconds < 10) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return `${Math.round(seconds / 3600)} h ago`;
}
