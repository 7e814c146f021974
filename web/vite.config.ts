// How the page is built: hashed files below one folder, each with its gzip beside it, nothing inline (the page's security policy forbids it).
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const OUTPUT = "../agent_gateway/dashboard/assets";
const GATEWAY = process.env["GATEWAY_URL"] ?? "http://127.0.0.1:8080";

function compressed(): Plugin {
  return {
    name: "compressed",
    apply: "build",
    async closeBundle() {
      const files = await readdir(OUTPUT, { recursive: true, withFileTypes: true });
      const texts = files.filter((file) => file.isFile() && /\.(js|css|html|svg)$/.test(file.name));
      await Promise.all(
        texts.map(async (file) => {
          const path = join(file.parentPath, file.name);
          await writeFile(`${path}.gz`, await promisify(gzip)(await readFile(path), { level: 9 }));
        }),
      );
    },
  };
}

export default defineConfig({
  base: "/dashboard/",
  plugins: [compressed()],
  build: {
    outDir: OUTPUT,
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: ["chrome123", "firefox125", "safari17.5"],
    reportCompressedSize: false,
  },
  server: { proxy: { "/admin/v1": { target: GATEWAY } } },
});
