// Routes: every model, where its requests go, how loaded and how well each deployment is; one can be taken out or preferred by hand.
import { useState } from "preact/hooks";
import { Page } from "../../components/page";
import { EmptyState, ErrorState, Notice, Skeleton } from "../../components/states";
import { FilterBar, FilterField, Segmented } from "../../components/field";
import { api, type Listed } from "../../core/api";
import { useLoaded } from "../../core/load";
import { connection, liveRoutes, useLive } from "../../core/live";
import { mayChange } from "../../core/login";
import { changeQuery, place } from "../../core/router";
import type { DeploymentNow, RouteNow } from "../../core/types";
import { dictionary } from "../../core/words";
import { InterventionDialog } from "./intervention";
import { healthOf, RoutePanel } from "./route";
import "./routes.css";

const words = dictionary({
  en: {
    title: "Routes",
    about: "Where requests for a model go, how loaded each deployment is, and whether it is well",
    filter: "Filter routes",
    name: "Model or deployment",
    all: "All",
    troubled: "In trouble",
    none: "No route matches",
    noneText: "Models are configured under models: in gateway.yaml; names that clients use beside them appear here once they were asked for.",
    readOnly: "You may look; to drain or prefer a deployment takes the role admin.",
  },
  zh: {
    title: "路由",
    about: "模型的请求发往何处、各部署的负载与健康状况",
    filter: "筛选路由",
    name: "模型或部署",
    all: "全部",
    troubled: "有异常",
    none: "没有符合条件的路由",
    noneText: "模型在 gateway.yaml 的 models: 下配置；客户端使用的其他名称在首次请求后出现。",
    readOnly: "当前角色只能查看；摘除或优先部署需要 admin 角色。",
  },
});

const EVERY_MS = 10_000;

export default function RoutesPage() {
  const say = words();
  useLive("routes");
  const first = useLoaded((signal) => api.get<Listed<RouteNow>>("routes", {}, signal), [], { everyMs: EVERY_MS, keep: true });
  const [acting, setActing] = useState<{ route: RouteNow; deployment: DeploymentNow } | null>(null);
  const loaded = first.data?.data ?? null;
  const routes = connection.value === "live" ? (liveRoutes.value ?? loaded) : (loaded ?? liveRoutes.value);
  const { query } = place.value;
  const [name, troubled] = [query.get("name") ?? "", query.get("show") === "troubled"];
  const shown = routes?.filter((route) => matches(route, name) && (!troubled || isTroubled(route)));
  return (
    <Page title={say.title} about={say.about}>
      <FilterBar label={say.filter}>
        <FilterField label={say.name} value={name} onChange={(value) => changeQuery({ name: value || null })} />
        <Segmented
          label={say.filter}
          value={troubled ? "troubled" : "all"}
          options={[
            ["all", say.all],
            ["troubled", say.troubled],
          ]}
          onChange={(chosen) => changeQuery({ show: chosen === "all" ? null : chosen })}
        />
      </FilterBar>
      {!mayChange.value && <Notice>{say.readOnly}</Notice>}
      {first.error && <ErrorState error={first.error} retry={first.reload} />}
      {!shown && !first.error && <Skeleton lines={10} />}
      {shown?.length === 0 && (
        <EmptyState title={say.none} icon="routes">
          {say.noneText}
        </EmptyState>
      )}
      {shown?.map((route) => (
        <RoutePanel key={route.name} route={route} act={(deployment) => setActing({ route, deployment })} />
      ))}
      {acting && <InterventionDialog {...acting} onClose={() => setActing(null)} done={first.reload} />}
    </Page>
  );
}

function matches(route: RouteNow, name: string): boolean {
  const sought = name.toLowerCase();
  return [route.name, ...route.deployments.map((deployment) => deployment.id)].some((known) => known.toLowerCase().includes(sought));
}

function isTroubled(route: RouteNow): boolean {
  return route.controller.state !== "normal" || route.deployments.some((deployment) => healthOf(deployment) !== "well");
}
