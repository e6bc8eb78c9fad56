/** Every metric, in one table: name, help, labels. Labels come from small closed sets: never a clientId, never a path. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "@prometheus-io/client";

/** From a fast append (0.3 ms on loopback) to a request that was waited for as long as is allowed. */
const MS_BUCKETS = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 25_000];
const COUNT_BUCKETS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000];

type Make<M> = (registry: Registry) => M;

function counter<const L extends string = never>(
  name: string,
  help: string,
  ...labelNames: readonly L[]
): Make<Counter<L>> {
  return (registry) => new Counter<L>({ name: `spillway_${name}`, help, labelNames, registers: [registry] });
}

function gauge<const L extends string = never>(
  name: string,
  help: string,
  ...labelNames: readonly L[]
): Make<Gauge<L>> {
  return (registry) => new Gauge<L>({ name: `spillway_${name}`, help, labelNames, registers: [registry] });
}

function histogram<const L extends string = never>(
  name: string,
  help: string,
  ...labelNames: readonly L[]
): Make<Histogram<L>> {
  const buckets = name.endsWith("_ms") ? MS_BUCKETS : COUNT_BUCKETS;
  return (registry) => new Histogram<L>({ name: `spillway_${name}`, help, labelNames, buckets, registers: [registry] });
}

const TABLE = {
  httpRequestMs: histogram("http_request_ms", "Time from request to the end of its answer, in ms.", "route", "status"),

  ingestAcceptedEvents: counter("ingest_accepted_events_total", "Events found valid."),
  ingestRefusedEvents: counter("ingest_refused_events_total", "Events refused, by the problem's code.", "code"),
  ingestAcknowledgedEvents: counter("ingest_acknowledged_events_total", "Events that the log made durable."),
  ingestAppendMs: histogram("ingest_append_ms", "Time from handing a send to the log until its answer, in ms."),
  ingestInFlightBytes: gauge("ingest_in_flight_bytes", "Bytes of events accepted and not yet acknowledged."),
  ingestSendRecords: histogram("ingest_send_records", "Records in one send to the log."),

  logRetainedBytes: gauge("log_retained_bytes", "Bytes that the log holds, reckoned from sampled records."),
  logUnsavedBytes: gauge("log_unsaved_bytes", "Bytes in the log that are not saved yet, reckoned likewise."),
  logLagMs: gauge("log_lag_ms", "Age of the oldest unsaved event that is known, in ms."),
  ingestLogFull: gauge("ingest_log_full", "Whether new events are refused because the log nears its limit: 1 or 0."),

  sinkMarginMs: gauge("sink_margin_ms", "Saved records stay in the log at least so long now, in ms."),
  sinkTrimmedRecords: counter("sink_trimmed_records_total", "Saved records deleted from the log."),
  sinkSavedRows: counter("sink_saved_rows_total", "Events saved as rows."),
  sinkCopies: counter("sink_copies_total", "Records left out because an earlier one has their identity."),
  sinkDeadLetters: counter("sink_dead_letters_total", "Records set aside, by reason.", "reason"),
  sinkBatchRows: histogram("sink_batch_rows", "Records in one transaction."),
  sinkBatchMs: histogram("sink_batch_ms", "Time of one transaction, in ms."),
  sinkUnitsMax: gauge("sink_batch_units_max", "Size of the next batch: rows and 1,200 bytes count one each."),
  sinkStretch: gauge("sink_stretch", "Cost of the last batches against what they cost when nobody disturbs."),
  sinkRest: gauge("sink_rest_ms", "Rest before the next batch, in ms."),
  sinkRestMs: counter("sink_rest_ms_total", "Time rested between batches to spare the database, in ms."),
  sinkLagRecords: gauge("sink_lag_records", "High watermark less checkpoint, by partition.", "partition"),
  sinkCheckpoint: gauge("sink_checkpoint", "First offset that is not saved, by partition.", "partition"),
  sinkStoreErrors: counter("sink_store_errors_total", "Failed transactions, by class.", "class"),
  sinkCircuitState: gauge("sink_circuit_state", "The store's circuit: 0 closed, 1 half-open, 2 open."),

  queryTailRecords: gauge("query_tail_records", "Unsaved records that this node holds in memory."),
  queryTailBytes: gauge("query_tail_bytes", "Bytes of unsaved records that this node holds in memory."),
  queryTailDiskRecords: gauge("query_tail_disk_records", "Unsaved records that this node holds on disk."),
  queryTailDiskBytes: gauge("query_tail_disk_bytes", "Bytes that they take, and dead ones that share files with them."),
  queryTailSegments: gauge("query_tail_segments", "Segments on disk that hold them."),
  queryTailSegmentsWritten: counter("query_tail_segments_written_total", "Segments of unsaved records laid down."),
  queryTailDiskReads: counter("query_tail_disk_reads_total", "Page reads whose range was partly on disk."),
  queryReadTo: gauge("query_read_to", "First offset that this node has not read, by partition.", "partition"),
  queryBarrierMs: histogram("query_barrier_ms", "Wait until this node had read as far as the log, in ms."),
  queryPageWaitMs: histogram(
    "query_page_wait_ms",
    "Wait of a page that needs the database until a statement took it along or it was given up, in ms.",
  ),
  queryPages: counter("query_pages_total", "Pages answered, by view.", "view"),
  queryUncheckedEvents: counter(
    "query_unchecked_events_total",
    "Events shown while the database was away, without asking it whether they are copies of saved ones.",
  ),
  querySubscribers: gauge("query_subscribers", "Live subscriptions open."),
  queryLiveBytes: gauge("query_live_bytes", "Bytes of live frames that their readers have not taken yet."),
  queryFrames: counter("query_frames_total", "Live frames sent, by type.", "type"),
  queryRedrivenDeadLetters: counter(
    "query_redriven_dead_letters_total",
    "Dead letters that were to be re-driven, by outcome: published or refused.",
    "outcome",
  ),

  relayRounds: counter("relay_rounds_total", "Looks at the event buffer, those of a relay that stands by too."),
  relayPublished: counter("relay_published_rows_total", "Rows of the event buffer that the log made durable."),
  relaySetAside: counter("relay_set_aside_total", "Rows set aside, by the problem's code.", "code"),
  relayRemovedRows: counter(
    "relay_removed_rows_total",
    "Rows removed from the event buffer some time after they were published.",
  ),
  relayStandby: gauge("relay_standby", "Whether another relay works and this one stands by: 1 or 0."),
  relayBacklogRows: gauge(
    "relay_backlog_rows",
    "Rows that wait to be published, as last looked at by the relay that works.",
  ),
  relayBacklogOldestMs: gauge("relay_backlog_oldest_ms", "Age of the oldest of them, in ms; 0: none waits."),
  relaySetAsideRows: gauge("relay_set_aside_rows", "Rows that are set aside in the event buffer."),
  relayBlockerMs: gauge(
    "relay_blocker_ms",
    "Age of the longest transaction that keeps writers of the event buffer waiting, in ms.",
  ),
  relayStoreErrors: counter("relay_store_errors_total", "Failed statements on the event buffer, by class.", "class"),

  poolConnections: gauge("pool_connections", "Database connections open, by pool.", "pool"),
  poolWaiting: gauge("pool_waiting", "Callers waiting for a database connection, by pool.", "pool"),
  poolWaitMs: histogram("pool_wait_ms", "Wait for a database connection, in ms.", "pool"),

  kafkaErrors: counter("kafka_errors_total", "Failed requests to the log, by request and kind.", "request", "kind"),
} as const;

export type Metrics = { readonly registry: Registry } & {
  readonly [K in keyof typeof TABLE]: ReturnType<(typeof TABLE)[K]>;
};

export type Role = "ingest" | "query" | "sink" | "relay";

/** Which roles count what, by the first word of its name; what is not here all do. A zero of another role would be a lie. */
const COUNTED_BY: Readonly<Record<string, readonly Role[]>> = {
  ingest: ["ingest"],
  log: ["ingest", "sink", "relay"],
  sink: ["sink"],
  query: ["query"],
  relay: ["relay"],
  pool: ["query", "sink", "relay"],
};

/**
 * A process' metrics in a registry of their own, with Node's usual ones. Several roles in one process share one.
 * @param roles the process': others' metrics are there to be set, and are not exported. None: all are
 */
export function createMetrics(...roles: readonly Role[]): Metrics {
  const registry = new Registry();
  const elsewhere = new Registry();
  collectDefaultMetrics({ register: registry });
  const counted = (key: string): boolean => {
    const by = COUNTED_BY[/^[a-z]+/.exec(key)?.[0] ?? ""];
    return by === undefined || roles.length === 0 || roles.some((role) => by.includes(role));
  };
  const made = Object.fromEntries(
    Object.entries(TABLE).map(([key, make]) => [key, make(counted(key) ? registry : elsewhere)]),
  );
  return { registry, ...(made as Omit<Metrics, "registry">) };
}
