// The page's own icons: strokes of 1.6 on a field of 20, in the colour of the text; decoration only, so words stand beside them.
const STROKES = {
  now: "M2.5 10h3.2l2.3-6 4 12 2.3-6h3.2",
  requests: "M4 5h12M4 10h12M4 15h7",
  routes: "M3 10h4c3 0 2.5-5 5.5-5H17M7 10c3 0 2.5 5 5.5 5H17M14.5 2.5 17 5l-2.5 2.5M14.5 12.5 17 15l-2.5 2.5",
  sessions: "M4 4h12a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1H9l-4 3v-3H4a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1Z",
  batches: "m10 3 7 3.5-7 3.5-7-3.5L10 3ZM3 10.2l7 3.5 7-3.5M3 13.7l7 3.5 7-3.5",
  keys: "M13 11.5a4.5 4.5 0 1 0-4.2-2.9L3 14.4V17h3v-2h2v-2h1.6l1-1c.7.4 1.5.5 2.4.5ZM14 7h.01",
  alerts: "M10 3a5 5 0 0 0-5 5c0 5-2 5.5-2 6.5h14c0-1-2-1.5-2-6.5a5 5 0 0 0-5-5ZM8 17h4",
  replay: "M3.5 10a6.5 6.5 0 1 0 2-4.7L3.5 7M3.5 3v4h4M10 6.5V10l2.5 1.8",
  playground: "M4 4h12a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1ZM6 8l2.5 2L6 12M10.5 12.5H14",
  settings: "M3 6h7M14 6h3M3 14h3M10 14h7M10 6a2 2 0 1 0 4 0 2 2 0 0 0-4 0ZM6 14a2 2 0 1 0 4 0 2 2 0 0 0-4 0Z",
  menu: "M3 5.5h14M3 10h14M3 14.5h14",
  close: "m5 5 10 10M15 5 5 15",
  check: "m4 10.5 4 4 8-9",
  copy: "M7 7h8.5a.5.5 0 0 1 .5.5V16a.5.5 0 0 1-.5.5H7a.5.5 0 0 1-.5-.5V7.5A.5.5 0 0 1 7 7ZM4 13V4.5a.5.5 0 0 1 .5-.5H13",
  search: "M9 4a5 5 0 1 0 0 10A5 5 0 0 0 9 4ZM12.7 12.7 17 17",
  left: "m12 4-6 6 6 6",
  right: "m8 4 6 6-6 6",
  down: "m4 7 6 6 6-6",
  up: "m4 13 6-6 6 6",
  warning: "M10 3 2.5 16.5h15L10 3ZM10 8v4M10 14.2h.01",
  information: "M10 2.8a7.2 7.2 0 1 0 0 14.4 7.2 7.2 0 0 0 0-14.4ZM10 9.2v4.2M10 6.6h.01",
  leave: "M12 4H5a1 1 0 0 0-1 1v10a1 1 0 0 0 1 1h7M9 10h8M14 7l3 3-3 3",
  download: "M10 3v9M6 8.5 10 12.5l4-4M4 16.5h12",
  plus: "M10 4v12M4 10h12",
  play: "M6 4v12l10-6L6 4Z",
  stop: "M5 5h10v10H5z",
  pause: "M7 4.5v11M13 4.5v11",
  empty: "M3 11h4l1.5 2.5h3L13 11h4M3 11l2.5-6h9L17 11v4.5a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V11Z",
} as const;

export type IconName = keyof typeof STROKES;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={STROKES[name]} />
    </svg>
  );
}
