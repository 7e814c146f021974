// Rows and columns. Where a row leads somewhere its first cell is the link, the whole row takes the click, and the arrow keys go through the rows.
import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import { common } from "../core/words";
import { navigate } from "../core/router";
import { Button } from "./button";
import { Skeleton } from "./states";

export interface Column<T> {
  key: string;
  title: ComponentChildren;
  cell: (row: T) => ComponentChildren;
  /** Figures are aligned at their ends. */
  end?: boolean;
  /** 1 is always there (the default), 2 not on phones, 3 on wide screens only. */
  rank?: 1 | 2 | 3;
  /** At least so wide (rem) where there is room: columns of tables one above the other are then aligned. */
  width?: number;
  /** Takes what room is left, and is cut off with dots where that is too little. */
  grow?: boolean;
}

interface TableProps<T> {
  /** What the table is, for those who do not see it. */
  label: string;
  columns: readonly Column<T>[];
  rows: readonly T[];
  rowKey: (row: T) => string;
  /** Where a row leads. */
  href?: (row: T) => string;
  /** The row that is open. */
  selected?: string | null;
  tone?: (row: T) => "bad" | "warn" | null;
  loading?: boolean;
  /** Stands in place of rows where there are none. */
  empty?: ComponentChildren;
  /** Lines are closer together. */
  dense?: boolean;
}

export function Table<T>({ label, columns, rows, rowKey, href, selected = null, tone, loading, empty, dense }: TableProps<T>) {
  const body = useRef<HTMLTableSectionElement>(null);
  const [current, setCurrent] = useState<string | null>(null);
  if (loading) return <Skeleton lines={6} />;
  if (rows.length === 0 && empty) return <>{empty}</>;
  const keys = rows.map(rowKey);
  const stop = [selected, current].find((key) => key !== null && keys.includes(key)) ?? keys[0];

  const onKeyDown = (event: KeyboardEvent) => {
    const links = [...(body.current?.querySelectorAll<HTMLAnchorElement>("a.row-link") ?? [])];
    const at = links.indexOf(document.activeElement as HTMLAnchorElement);
    if (at < 0) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    links[Math.max(0, Math.min(to, links.length - 1))]?.focus();
  };
  const onRowClick = (event: MouseEvent, row: T) => {
    const chosen = window.getSelection();
    if (!href || (event.target as Element).closest("a, button, input, label") || (chosen && !chosen.isCollapsed)) return;
    if (event.metaKey || event.ctrlKey) window.open(href(row), "_blank", "noopener");
    else navigate(href(row));
  };

  return (
    <div class="table-frame" role="region" aria-label={label} tabIndex={href ? undefined : 0}>
      <table class={dense ? "table table-dense" : "table"} aria-label={label}>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.key} scope="col" class={classOf(column)} style={column.width ? { "--width": `${column.width}rem` } : undefined}>
                {column.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody ref={body} onKeyDown={href ? onKeyDown : undefined}>
          {rows.map((row, at) => {
            const key = keys[at]!;
            return (
              <tr
                key={key}
                class={[href && "row-opens", tone?.(row) && `row-${tone(row)}`].filter(Boolean).join(" ") || undefined}
                data-selected={key === selected || undefined}
                onClick={(event) => onRowClick(event, row)}
              >
                {columns.map((column, place) => (
                  <td key={column.key} class={classOf(column)}>
                    {place === 0 && href ? (
                      <a
                        class="row-link"
                        href={href(row)}
                        tabIndex={key === stop ? 0 : -1}
                        aria-current={key === selected ? "true" : undefined}
                        onFocus={() => setCurrent(key)}
                      >
                        {column.cell(row)}
                      </a>
                    ) : (
                      column.cell(row)
                    )}
                  </td>
                ))}
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

/** Below a list that goes on. */
export function Pagination({ shown, next, busy, more }: { shown: number; next: string | null; busy?: boolean; more: () => void }) {
  const say = common();
  if (next === null) return null;
  return (
    <div class="pagination">
      <span class="muted">{shown}</span>
      <Button small busy={busy} onClick={more}>
        {say.more}
      </Button>
    </div>
  );
}

function classOf<T>(column: Column<T>): string | undefined {
  return [column.end && "end", column.rank && column.rank > 1 && `rank-${column.rank}`, column.grow && "grow"].filter(Boolean).join(" ") || undefined;
}
