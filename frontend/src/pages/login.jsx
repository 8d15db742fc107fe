import { useState } from "preact/hooks";
import { logIn } from "../api.js";
import { currentLanguage, t } from "../words.js";

export function Login({ onLogin, onLanguage }) {
  const [way, setWay] = useState("token");
  const [text, setText] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);

  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      onLogin(await logIn({ [way]: text }));
    } catch (error) {
      setProblem(error.message);
    }
    setBusy(false);
  };
  const upload = async (event) => setText((await event.currentTarget.files[0]?.text()) || "");
  const choose = (other) => {
    setWay(other);
    setText("");
    setProblem("");
  };
  return (
    <main class="login">
      <form onSubmit={submit}>
        <h1>Peavine</h1>
        <div class="tabs" role="tablist">
          <button type="button" role="tab" aria-selected={way === "token"} onClick={() => choose("token")}>{t("Bearer token")}</button>
          <button type="button" role="tab" aria-selected={way === "kubeconfig"} onClick={() => choose("kubeconfig")}>{t("Kubeconfig")}</button>
        </div>
        {way === "token" ? (
          <label>{t("Bearer token")}<input name="token" type="password" autocomplete="off" required value={text} onInput={(e) => setText(e.currentTarget.value)} /></label>
        ) : (
          <>
            <label>{t("Kubeconfig")}<textarea name="kubeconfig" rows={8} spellcheck={false} required value={text} onInput={(e) => setText(e.currentTarget.value)} /></label>
            <label>{t("or a file")}<input type="file" onChange={upload} /></label>
            <p class="hint">{t("Paste a kubeconfig that holds a token or a client certificate. Its server is ignored.")}</p>
          </>
        )}
        {problem && <p class="problem" role="alert">{problem}</p>}
        <button class="primary" disabled={busy}>{t("Log in")}</button>
        <p class="hint">{t("Credentials stay in the memory of the dashboard's process and go nowhere but to the API server.")}</p>
        <button type="button" class="quiet" onClick={onLanguage}>{currentLanguage() === "zh" ? "English" : "中文"}</button>
      </form>
    </main>
  );
}
