// xterm.js with the page's colors, and without anything that leads out of the page.
import { Terminal } from "./vendor/xterm.mjs";

// xterm.js writes style elements. The page's policy allows those with its nonce.
const nonce = document.querySelector("meta[name=style-nonce]").getAttribute("nonce") || document.querySelector("meta[name=style-nonce]").nonce;
const create = document.createElement.bind(document);
document.createElement = (tag, options) => {
  const made = create(tag, options);
  if (String(tag).toLowerCase() === "style") made.nonce = nonce;
  return made;
};

export const dark = matchMedia("(prefers-color-scheme: dark)");

const DARK = {
  background: "#0b0f14", foreground: "#dbe2ea", cursor: "#5aa2ff", cursorAccent: "#0b0f14", selectionBackground: "#2f4a73",
  black: "#1b232d", red: "#ff7b78", green: "#4fc98a", yellow: "#e0b040", blue: "#6aabff", magenta: "#c49bf7", cyan: "#4fcac6", white: "#c7d0da",
  brightBlack: "#7d8a9a", brightRed: "#ff9a97", brightGreen: "#74dba5", brightYellow: "#f0c860", brightBlue: "#8fc0ff", brightMagenta: "#d6b6fb", brightCyan: "#79dedb", brightWhite: "#ffffff",
};
const LIGHT = {
  background: "#fbfcfe", foreground: "#1b2430", cursor: "#1f6feb", cursorAccent: "#ffffff", selectionBackground: "#bcd6ff",
  black: "#1b2430", red: "#b51f26", green: "#14703f", yellow: "#855000", blue: "#1a5fd0", magenta: "#7a3fc0", cyan: "#0b7674", white: "#66727f",
  brightBlack: "#5a6675", brightRed: "#c8262c", brightGreen: "#1a7f4b", brightYellow: "#946000", brightBlue: "#1f6feb", brightMagenta: "#8a4fd0", brightCyan: "#0f8583", brightWhite: "#3b4652",
};

export const theme = () => (dark.matches ? DARK : LIGHT);

export function makeScreen(options = {}) {
  return new Terminal({
    fontFamily: '"DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace',
    fontSize: 14,
    scrollback: 5000,
    theme: theme(),
    minimumContrastRatio: 4.5,
    screenReaderMode: false,
    cursorBlink: false,
    linkHandler: { activate() {} }, // an address that a program prints is no link
    ...options,
  });
}
