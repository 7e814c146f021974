// A key's secret, which is in one answer only: it can be copied, and is gone when the dialog closes.
import { Button, CopyButton } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { Notice } from "../../components/states";
import type { KeyWithSecret } from "./types";
import { words } from "./words";

export function SecretDialog({ made, onClose }: { made: KeyWithSecret; onClose: () => void }) {
  const say = words();
  return (
    <Dialog
      firm
      title={say.secretTitle}
      onClose={onClose}
      footer={
        <Button look="primary" onClick={onClose}>
          {say.done}
        </Button>
      }
    >
      <Notice tone="warn">
        <p>{say.secretAbout}</p>
      </Notice>
      <div class="secret">
        <output class="mono" aria-label={say.secret}>
          {made.key}
        </output>
        <CopyButton text={made.key} />
      </div>
      <p class="muted">
        {made.name} · <span class="mono">{made.id}</span>
      </p>
    </Dialog>
  );
}
