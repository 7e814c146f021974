"""The composition root: configuration → runtime → app. The only place that knows every room and loads plug-ins."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from agent_gateway.admission.gate import Gate
from agent_gateway.admission.keys import GATEWAY, KeyRing
from agent_gateway.admission.limits import Limiter
from agent_gateway.admission.logins import Logins
from agent_gateway.admission.refusals import Refusals
from agent_gateway.batch.batches import Batches
from agent_gateway.batch.engine import Engine
from agent_gateway.batch.files import Files
from agent_gateway.batch.native.plan import parts_of
from agent_gateway.batch.one_call import whole_answer
from agent_gateway.batch.synchronous import Group
from agent_gateway.control.admin.api import AdminApi
from agent_gateway.control.admin.batches import BatchHands
from agent_gateway.control.audit import AuditLog, signing_key
from agent_gateway.control.errors import ConfigurationError
from agent_gateway.control.interventions import Interventions
from agent_gateway.control.masking import changed
from agent_gateway.control.oversight import Oversight, OwnOversight
from agent_gateway.control.reload import reload
from agent_gateway.control.replays import Replays
from agent_gateway.control.snapshot import Configuration
from agent_gateway.control.source import Source
from agent_gateway.control.tls import tls_context
from agent_gateway.core.call import Call
from agent_gateway.core.clock import SYSTEM_CLOCK, Clock, new_request_id
from agent_gateway.core.errors import StoreDown
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Route
from agent_gateway.core.settings import Monitoring
from agent_gateway.core.siblings import ALONE, Siblings
from agent_gateway.dashboard.page import Page
from agent_gateway.edge.app import App
from agent_gateway.edge.batch_room import BatchRoom
from agent_gateway.edge.bodies import Bodies
from agent_gateway.edge.limits import Limits, connections_max
from agent_gateway.edge.server import Server
from agent_gateway.edge.shared_port import Share
from agent_gateway.health.registry import Health
from agent_gateway.pipeline import Live, Runtime
from agent_gateway.protocols.base import load_codecs
from agent_gateway.record.alerting.engine import AlertEngine
from agent_gateway.record.alerting.watch import Watch, spent
from agent_gateway.record.base import Address
from agent_gateway.record.cost import settle
from agent_gateway.record.family import Family
from agent_gateway.record.metrics import Metrics
from agent_gateway.record.recorder import Recorder
from agent_gateway.routing.base import STRATEGIES, Strategy
from agent_gateway.routing.planner import Planner
from agent_gateway.session.live_streams import LiveStreams, MemoryStreams
from agent_gateway.session.memory import Memory
from agent_gateway.session.responses import Responses
from agent_gateway.stores.base import IN_MEMORY, Store, Team, open_store
from agent_gateway.stores.batches import BatchStore
from agent_gateway.stores.meeting_place import Place
from agent_gateway.upstream.base import PROVIDERS, Provider
from agent_gateway.upstream.known_providers import known_provider
from agent_gateway.upstream.loop import AttemptLoop
from agent_gateway.upstream.transport import Transport
from agent_gateway.upstream.web import Web

if TYPE_CHECKING:
    from agent_gateway.cache.exact import Exact
    from agent_gateway.guard.stage import Guards
    from agent_gateway.health.board import Board
    from agent_gateway.workers.member import Member

#: On the way out, records have this long to reach their sinks (s).
FLUSH_TIMEOUT_S = 10.0
#: Models told apart in metrics, where the price table alone says which there are.
MODEL_LABELS_MAX = 500

_log = logging.getLogger("agent_gateway")


class Gateway:
    """What lives as long as the process, and the runtime of the configuration that holds now."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        environ: Mapping[str, str] = os.environ,
        options: Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        recorder: Recorder | None = None,
        providers: Mapping[str, Provider] | None = None,
        store: Store | None = None,
        random: Random | None = None,
        member: Member | None = None,
        shared_file: Path | None = None,
    ) -> None:
        """`recorder`, `providers` (by their configured names) and `store` stand in for those that the configuration would have made.

        `member`: what it is among this machine's workers; None: it is alone. `shared_file`: stands in for a Redis among them.
        """
        self.configuration = configuration
        self._environ = environ
        self._options = options
        self._clock = clock
        self._given = providers
        self._random = random
        self._member = member
        # Outlives every reload.
        settings = configuration.settings
        self._health = Health(random)
        connections = connections_max()
        self._transport = Transport(max_connections=connections, environ=environ)
        self._recorder = recorder or Recorder.for_settings(settings, clock)
        self._recorder.metrics.watch_health(self._health, clock)
        self._store = store or open_store(settings.state.database)
        self._web = Web(self._transport, clock)
        self._keys = KeyRing(self._store, clock, auth=settings.auth, fetch=self._web.get)
        self._logins = Logins(self._store, self._keys, clock)
        self._interventions = Interventions(self._store, self._health, clock)
        place = settings.state.redis or shared_file
        self._limiter = Limiter(clock, self._store, self._keys.team, place=place)
        self._board = None if place is None else _board(place, self._health, clock, self._recorder.metrics)
        self._recorder.metrics.watch_limits(self._limiter)
        #: None: the supervisor watches over all workers.
        self._watch: Watch | None = None
        if member is None:
            self._watch = Watch(self._recorder.metrics, self._limiter.nearly_spent, self._web.post, clock)
            self._recorder.metrics.watch_alerts(self._watch)
        self._audit = AuditLog(self._store, lambda: signing_key(self.configuration.settings), clock)
        self._refusals = Refusals(clock, self._audit.refused)
        self._streams = _streams(settings.state.redis, member)
        self._recorder.metrics.watch_streams(self._streams)
        self._memory = Memory(self._store, clock, self._asked)
        self._recorder.metrics.watch_sessions(self._memory)
        self._responses = Responses(self._store, clock)
        self._recorder.metrics.watch_responses(self._responses)
        self._exact: Exact | None = None
        self._server: Server | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._reload_wanted = False  # the file may have changed since it was read last
        self._looking: asyncio.Task[None] | None = None
        # Of the configuration.
        self._providers: dict[str, tuple[msgspec.Struct, Provider]] = {}
        self.live = Live(self._compile(configuration))
        self._batches = Engine(self._store, self.live, self._keys, self._health, clock) if isinstance(self._store, BatchStore) else None
        if self._batches is not None:
            self._recorder.metrics.watch_batches(self._batches.figures)
        self.limits = Limits(
            body_max_bytes=int(settings.server.body_max_mb * 1024 * 1024),
            bodies=Bodies(int(settings.server.bodies_max_mb * 1024 * 1024)),
            connections_max=connections,
        )

    @cached_property
    def admin(self) -> AdminApi:
        return AdminApi(
            lambda: self.configuration,
            self._store,
            self._audit,
            self._recorder,
            self._streams,
            self._health,
            self._erase_answers,
            self._oversight,
            self._logins,
            self._interventions,
            self._clock,
            batches=BatchHands(self._batch_room.batches.cancel, parts_of, self._batch_room.files.content),
            replays=self._replays,
            runtime=lambda: self.live.runtime,
            siblings=self._member or ALONE,
            over=self.is_leaving,
        )

    @cached_property
    def _replays(self) -> Replays:
        return Replays(lambda: self.configuration, self._environ, self._options or {}, self._store, self._clock)

    @cached_property
    def app(self) -> App:
        """Made when it is first asked for, as the admin API is: a rehearsal has no doors."""
        return App(
            self.live,
            self.limits,
            ready=self._why_not_ready,
            started=self._start,
            stopped=self._stop,
            scrape=self._scrape,
            admin=self.admin,
            logins=self._logins,
            page=Page(),
            batches=self._batch_room,
            refusals=self._refusals,
        )

    @cached_property
    def _batch_room(self) -> BatchRoom:
        return BatchRoom(Files(self._store, self._clock), Batches(self._store, self._batches, self._clock), Group)

    @classmethod
    def rehearsal(
        cls,
        configuration: Configuration,
        clock: Clock,
        *,
        recorder: Recorder,
        providers: Mapping[str, Provider],
        random: Random,
        store: Store | None = None,
    ) -> Gateway:
        """One that the world does not hear of: its state ends with it, and nothing is sent but to the given providers."""
        settings = configuration.settings
        settings = msgspec.structs.replace(
            settings,
            state=msgspec.structs.replace(settings.state, database=IN_MEMORY, redis=None),
            monitoring=Monitoring(mode="minimal"),
            alerts=msgspec.structs.replace(settings.alerts, webhooks=()),
        )
        configuration = replace(configuration, settings=settings)
        return cls(configuration, environ={}, clock=clock, recorder=recorder, providers=providers, store=store, random=random)

    @property
    def watch(self) -> Watch:
        assert self._watch is not None, "a worker has none of its own"
        return self._watch

    @property
    def alerts(self) -> AlertEngine:
        return self.watch.engine

    @property
    def _oversight(self) -> Oversight:
        if self._watch is not None:
            return OwnOversight(self._watch, self._clock)
        assert self._member is not None
        return self._member

    @property
    def health(self) -> Health:
        return self._health

    async def meet(self, teams: Iterable[Team]) -> None:
        """Of a rehearsal: those whose budgets hold in it."""
        for team in teams:
            await self._store.put_team(team)
        await self._keys.refresh()

    def server(self, listening: Any, *, share: Share | None = None) -> Server:
        settings = self.configuration.settings.server
        self._server = Server(
            self.app,
            self.live,
            self.limits,
            host=settings.host,
            port=settings.port,
            drain_timeout_s=settings.drain_timeout_s,
            use_fast_lane=self._environ.get("AGENT_GATEWAY_FAST_LANE", "on") != "off",
            listening=listening,
            reload=self.reload_soon if self._member is None else _nothing,
            tls=None if settings.tls is None else tls_context(settings.tls),
            share=share,
        )
        return self._server

    def reload_soon(self) -> None:
        """Starts a reload; where one is under way, another follows it."""
        self._reload_wanted = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.ensure_future(self._reload())

    async def _reload(self) -> None:
        while self._reload_wanted:
            self._reload_wanted = False
            await self.take_up()

    async def take_up(self, source: Source | None = None, *, is_first: bool = True) -> list[str]:
        """A new configuration: `source`, or what stands in the file now. `is_first`: of the workers. What is wrong with it."""
        try:
            new = await asyncio.to_thread(reload, self.configuration, self._environ, options=self._options, source=source)
            was, is_now = changed(self.configuration.settings, new.settings)
            tls = new.settings.server.tls
            context = None if tls is None else await asyncio.to_thread(tls_context, tls)
            runtime = self._compile(new)
        except ConfigurationError as error:
            _log.error("the configuration was not reloaded; the old one stays:\n%s", "\n".join(error.errors))
            return list(error.errors)
        except Exception as failure:  # a plug-in's: the gateway goes on as it was
            _log.exception("the configuration was not reloaded; the old one stays")
            return [f"{type(failure).__name__}: {failure}"]
        self.live.runtime, self.configuration = runtime, new
        if context is not None and self._server is not None:
            self._server.renew(context)
        self._audit.configure()
        if not is_first:
            return []
        try:
            await self._audit.append("config.reload", new.source or "the environment", before=was, after=is_now)
        except StoreDown as error:  # an operator may be mending just that
            _log.error("the reload is not in the audit log: %s", error.detail or error.message)
        if self._member is None:  # else the supervisor tells it for all
            _log.warning("the configuration was reloaded from %s", new.source or "the environment")
        return []

    def _compile(self, configuration: Configuration) -> Runtime:
        """What can fail comes first: after an exception nothing has changed."""
        settings = configuration.settings
        known = dict(configuration.routes)
        for name in [name for route in known.values() for name in route.fallbacks]:
            if (fallback := configuration.find(name)) is not None:
                known[name] = fallback
        for route in known.values():
            _strategy_of(route)
        made = {name: self._provider(name, struct) for name, struct in settings.providers.items()}
        guards = self._guards(configuration)
        sinks = self._recorder.further(settings.monitoring)

        def find(name: str) -> Route | None:
            route = known.get(name)
            if route is None:
                route = configuration.find(name)
                if route is not None:
                    self._health.meet(route)
            return route

        self._providers = made
        providers = {name: provider for name, (_, provider) in made.items()}
        self._health.configure(known.values())
        deployments = [deployment.id for route in configuration.routes.values() for deployment in route.deployments]
        labels = list(configuration.routes) or configuration.listed[:MODEL_LABELS_MAX]
        addresses = {name: _address(struct) for name, struct in settings.providers.items()}
        self._recorder.configure(settings.monitoring, labels, deployments, sinks, addresses)
        if self._watch is not None:
            self._watch.configure(settings.alerts, {name: route.fallback for name, route in configuration.routes.items()})
        self._keys.configure(settings.auth)
        self._limiter.configure(find)
        return Runtime(
            settings=settings,
            gate=Gate(
                find,
                configuration.listed,
                self._keys,
                self._limiter,
                limits=settings.limits,
                key_required=settings.auth.key_required,
                admin_open=settings.auth.admin_key is None,
            ),
            planner=Planner(find, _strategy_of, self._health, self._clock, self._random, routes=configuration.routes),
            upstream=AttemptLoop(providers, self._health, self._clock, random=self._random),
            recorder=self._recorder,
            memory=self._memory,
            responses=self._responses,
            streams=self._streams,
            guards=guards,
            cache=self._cache(configuration),
            clock=self._clock,
        )

    def _provider(self, name: str, settings: Any) -> tuple[msgspec.Struct, Provider]:
        """The one there is, where its settings did not change."""
        if self._given is not None:
            return settings, self._given[name]
        known = self._providers.get(name)
        if known is not None and known[0] == settings:
            return known
        return settings, PROVIDERS.load(settings.kind)(settings, self._transport, self._clock)

    def _guards(self, configuration: Configuration) -> Guards | None:
        """None, and not so much as imported, where no model has any."""
        all_of = [configuration.settings.guards, *(route.guards for route in configuration.routes.values())]
        if not any(guards.input or guards.output for guards in all_of):
            return None
        from agent_gateway.guard.base import Tools
        from agent_gateway.guard.stage import Guards

        made = Guards(lambda: self._store.secret("guards"), Tools(self._web.post, self._clock))
        for guards in all_of:
            made.prepare(guards)
        return made

    def _cache(self, configuration: Configuration) -> Exact | None:
        """None, and not so much as imported, where no model has one, or nothing of what is said may be kept."""
        settings = configuration.settings
        all_of = [settings.cache, *(route.cache for route in configuration.routes.values())]
        enabled = settings.monitoring.mode != "minimal" and any(cache.exact.enabled for cache in all_of)
        if enabled or self._exact is not None:
            self._exact = self._exact or self._new_exact()
            self._exact.configure(settings, enabled=enabled)
        return self._exact if enabled else None

    def _new_exact(self) -> Exact:
        from agent_gateway.cache.exact import Exact

        redis = self.configuration.settings.state.redis
        if redis is None:
            from agent_gateway.cache.memory import MemoryEntries

            made = Exact(MemoryEntries(self._clock), settle, self._clock)
        else:
            from agent_gateway.cache.redis import RedisEntries

            made = Exact(RedisEntries(redis, self._clock), settle, self._clock)
        self._recorder.metrics.watch_cache(made)
        return made

    async def _erase_answers(self, user: str) -> int:
        """What Redis has may be left from when there was a cache, or be of other processes'."""
        if self._exact is None and self.configuration.settings.state.redis is not None:
            self._exact = self._new_exact()
        return 0 if self._exact is None else await self._exact.erase(user)

    def is_leaving(self) -> bool:
        """This process; others may serve on."""
        return self._server is not None and self._server.should_exit

    def _why_not_ready(self) -> str | None:
        return "the gateway is draining" if self._server is not None and self._server.draining else None

    async def _start(self) -> None:
        self._looking = asyncio.create_task(self._look_for_store())
        load_codecs()
        await self._recorder.start()
        board = [] if self._board is None else [self._board.start()]
        await asyncio.gather(self._limiter.start(), self._interventions.start(), *board)
        self._memory.start()
        if self._watch is not None:
            self._watch.start()
        if self._batches is not None:
            self._batches.start()

    async def _look_for_store(self) -> None:
        """Nobody waits for it: a gateway without its store is ready, and an operator who starts one is told."""
        try:
            await self._store.keys_version()
        except StoreDown as error:
            _log.warning("The database (state.database) cannot be reached: %s", error.detail or error.message)

    async def _stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking], timeout=FLUSH_TIMEOUT_S)
        if tasks := self.live.tasks:  # the server has waited for them; one that is not ours may not have
            for task in tasks:
                if not task.cancelling():
                    task.cancel()
            await asyncio.wait(tasks, timeout=FLUSH_TIMEOUT_S)
        if self._batches is not None:
            await self._batches.close(FLUSH_TIMEOUT_S)
        await self._interventions.close()
        await self._replays.close(FLUSH_TIMEOUT_S)
        if self._watch is not None:
            await self._watch.close(FLUSH_TIMEOUT_S)
        await self._memory.close(FLUSH_TIMEOUT_S)
        await self._responses.close(FLUSH_TIMEOUT_S)
        await self._streams.close(FLUSH_TIMEOUT_S)
        if self._exact is not None:
            await self._exact.close(FLUSH_TIMEOUT_S)
        for _, provider in self._providers.values():
            await provider.close()
        await self._transport.close()
        await self._recorder.close(timeout_s=FLUSH_TIMEOUT_S)
        await self._limiter.close(FLUSH_TIMEOUT_S)
        if self._board is not None:
            await self._board.close()
        await self._refusals.close()
        await self._logins.close()
        await self._keys.close()  # and the store with them
        if self._member is not None:
            await self._member.leave(self.figures())

    # --- among other workers

    def figures(self) -> list[Family]:
        """Of every request that has ended in this process."""
        self._recorder.fold()
        return [*self._recorder.metrics.families(), spent(self._limiter.nearly_spent())]

    def retire(self) -> None:
        """Others serve on."""
        assert self._server is not None, "it does not serve"
        self._server.retire()

    async def _scrape(self) -> tuple[bytes, str]:
        return self._recorder.scrape() if self._member is None else await self._member.scrape()

    async def _asked(self, call: Call) -> bytes:
        """A call of the gateway's own, answered and recorded like any other. A fixed text is no answer to it."""
        wall = self._clock.wall()
        call = msgspec.structs.replace(call, conversational=False)
        begun = self._clock.monotonic()
        exchange = Exchange(id=new_request_id(wall), call=call, started=begun, started_wall=wall, key=GATEWAY, uses_cache=False)
        return await whole_answer(exchange, self.live.runtime)


def _nothing() -> None:
    return None


def _board(place: Place, health: Health, clock: Clock, metrics: Metrics) -> Board:
    from agent_gateway.health.board import Board

    board = Board(place, health, clock)
    metrics.watch_board(board)
    return board


def _streams(redis: str | None, siblings: Siblings | None) -> LiveStreams:
    if redis is None:
        if siblings is None:
            return MemoryStreams()
        from agent_gateway.session.sibling_streams import SiblingStreams

        return SiblingStreams(siblings)
    from agent_gateway.session.redis_streams import RedisStreams

    return RedisStreams(redis)


def _address(settings: Any) -> Address:
    """Of a provider, for those who read of its calls; a server that is known by its address is called by its own kind."""
    url = str(getattr(settings, "base_url", ""))
    known, parts = known_provider(settings.kind, url), urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return Address(settings.kind if known is None else known.kind, parts.hostname, port)


def _strategy_of(route: Route) -> Strategy:
    plugin: type[Strategy] = STRATEGIES.load(route.strategy)
    return plugin(route.strategy_settings or plugin.Settings())
