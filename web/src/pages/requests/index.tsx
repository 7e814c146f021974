// Requests: the records, searched and filtered; the one whose id is in the address lies beside the list, or over it on a narrow screen.
import { Page } from "../../components/page";
import { Split } from "../../components/split";
import { href, navigate, place } from "../../core/router";
import { dictionary } from "../../core/words";
import { RequestDetail } from "./detail";
import { Filters, queryOf } from "./filters";
import { RequestList } from "./list";
import "./requests.css";

const words = dictionary({
  en: { title: "Requests", about: "Every request leaves a record: how it was answered, by whom, how fast and at what cost" },
  zh: { title: "请求", about: "每个请求都有一条记录：由谁作答、耗时多少、花费多少" },
});

export default function RequestsPage() {
  const say = words();
  const id = place.value.segments[1] ?? null;
  const query = queryOf(place.value.query);
  const close = () => navigate(href("/requests", query));
  return (
    <Page title={say.title} about={say.about}>
      <Split
        close={close}
        open={id && <RequestDetail key={id} id={id} close={close} />}
        list={
          <>
            <Filters />
            <RequestList query={query} selected={id} />
          </>
        }
      />
    </Page>
  );
}
