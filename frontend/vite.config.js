import { defineConfig } from "vite";
import preact from "@preact/preset-vite";

export default defineConfig({
  base: "./",
  plugins: [preact({ prefreshEnabled: false })],
  build: {
    outDir: "../src/peavine/dashboard/static",
    emptyOutDir: true,
    assetsDir: "",
    // Inline scripts and data: fonts would need holes in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
