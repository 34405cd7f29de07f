// How figures are written for people. Decides nothing else. A number and its unit are not parted at the end of a line.

/** A number of things, exact: those beyond 2^53 come as texts. */
export const count = (n) => (typeof n === "string" ? n : String(Math.round(n))).replace(/\B(?=(\d{3})+$)/g, ",");

/** The same as a number, for bars and sums: large ones lose their last digits. */
export const size = (n) => Number(n) || 0;

export function seconds(s) {
  if (s < 0.0005) return s > 0 ? "<1\u00a0ms" : "0\u00a0s";
  if (s < 1) return `${(s * 1000).toFixed(s < 0.01 ? 1 : 0)}\u00a0ms`;
  if (s < 60) return `${s.toFixed(s < 10 ? 1 : 0)}\u00a0s`;
  if (s < 3600) return `${Math.floor(s / 60)}\u00a0min ${Math.floor(s % 60)}\u00a0s`;
  if (s < 86400) return `${Math.floor(s / 3600)}\u00a0h ${Math.floor((s % 3600) / 60)}\u00a0min`;
  return `${Math.floor(s / 86400)}\u00a0d ${Math.floor((s % 86400) / 3600)}\u00a0h`;
}

export function octets(n) {
  let value = size(n), unit = 0;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${value >= 10 || !unit ? value.toFixed(0) : value.toFixed(1)}\u00a0${units[unit]}`;
}

export function rate(r) {
  if (!r) return "0/s";
  if (r >= 10) return `${count(r)}/s`;
  return r >= 0.1 ? `${r.toFixed(1)}/s` : `${(r * 60).toFixed(1)}/min`;
}

export function moment(at) {
  if (!at) return "–";
  const date = new Date(at * 1000), two = (n) => String(n).padStart(2, "0");
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return Date.now() / 1000 - at < 64800 ? clock : `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock}`;
}

/** "3 nodes", "1 node". */
export const several = (n, thing) => `${count(n)}\u00a0${thing}${size(n) === 1 ? "" : "s"}`;

/** A job as tables call it. */
export const short = (job) => (job.length > 16 ? `${job.slice(0, 8)}..${job.slice(-4)}` : job);
