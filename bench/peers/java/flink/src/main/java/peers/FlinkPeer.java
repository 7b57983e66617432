package peers;

import java.util.HashMap;
import java.util.Map;
import java.util.Properties;

import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.core.fs.Path;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/**
 * The flights in Apache Flink: source → parse and look up → a window by carrier → score in batches → sink.
 *
 * <p>With one worker all of it is one chain in one thread (a fetcher reads ahead in another), rows are
 * reused and never serialised. With more, rows are exchanged by carrier.
 */
public final class FlinkPeer {
  private static final TypeInformation<byte[]> BYTES = PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO;

  private static Map<String, String> settings() {
    Map<String, String> known = new HashMap<>();
    for (String needed : new String[] {"input", "output", "tables", "destinations", "model"}) known.put(needed, null);
    known.put("broker", "");              // with one, input and output are topics, else files
    known.put("workers", "1");
    known.put("batch", "256");            // rows of a model run at most
    known.put("batch_timeout_ms", "100"); // no row waits longer for others to join it
    known.put("checkpoint_ms", "1000");   // with Kafka: offsets are committed so often, at least once
    known.put("checkpoints", "");         // their folder
    return known;
  }

  public static void main(String[] arguments) throws Exception {
    Settings settings = new Settings(arguments, settings());
    boolean kafka = !settings.textOrNone("broker").isEmpty();
    int workers = settings.number("workers");

    StreamExecutionEnvironment flink =
        StreamExecutionEnvironment.createLocalEnvironment(workers, configuration(settings, workers));
    flink.setRuntimeMode(RuntimeExecutionMode.STREAMING);
    flink.getConfig().enableObjectReuse();
    if (kafka) flink.enableCheckpointing(settings.number("checkpoint_ms"), CheckpointingMode.AT_LEAST_ONCE);

    SingleOutputStreamOperator<byte[]> messages = kafka ? topic(flink, settings) : file(flink, settings);
    DataStream<Row> rows = messages.setParallelism(1)
        .map(new Parse(settings.text("tables"), settings.text("destinations"))).returns(Row.class).setParallelism(1);
    KeyedStream<Row, String> byCarrier = workers == 1
        ? DataStreamUtils.reinterpretAsKeyedStream(rows, row -> row.carrier, Types.STRING)
        : rows.keyBy(row -> row.carrier, Types.STRING);
    Score score = new Score(settings.text("model"), settings.number("batch"), settings.number("batch_timeout_ms"));
    DataStream<Message> scored = byCarrier.process(new CarrierDelay()).returns(Row.class)
        .transform("score", TypeInformation.of(Message.class), score);
    scored.sinkTo(kafka ? topicSink(settings) : new LineSink(settings.text("output")));
    flink.execute("flights");
  }

  private static Configuration configuration(Settings settings, int workers) {
    Configuration configuration = new Configuration();
    configuration.setString("taskmanager.numberOfTaskSlots", String.valueOf(workers));
    configuration.setString("taskmanager.memory.network.min", "64m");
    configuration.setString("taskmanager.memory.network.max", "64m");
    configuration.setString("taskmanager.memory.managed.size", "16m");
    configuration.setString("execution.buffer-timeout.interval", "100 ms");
    configuration.setString("rest.bind-address", "127.0.0.1");
    configuration.setString("state.backend.type", "hashmap");
    if (!settings.textOrNone("broker").isEmpty()) {
      configuration.setString("execution.checkpointing.storage", "filesystem");
      String folder = java.nio.file.Path.of(settings.text("checkpoints")).toUri().toString();
      configuration.setString("execution.checkpointing.dir", folder);
    }
    return configuration;
  }

  private static SingleOutputStreamOperator<byte[]> file(StreamExecutionEnvironment flink, Settings settings) {
    Path path = new Path(settings.text("input"));
    FileSource<byte[]> source = FileSource.forRecordStreamFormat(new Lines(), path).build();
    return flink.fromSource(source, WatermarkStrategy.noWatermarks(), "file");
  }

  private static SingleOutputStreamOperator<byte[]> topic(StreamExecutionEnvironment flink, Settings settings) {
    KafkaSource<byte[]> source = KafkaSource.<byte[]>builder()
        .setBootstrapServers(settings.text("broker"))
        .setTopics(settings.text("input"))
        .setGroupId("flink-peer-" + ProcessHandle.current().pid())
        .setStartingOffsets(OffsetsInitializer.earliest())
        .setDeserializer(KafkaRecordDeserializationSchema.valueOnly(new MessageBytes()))
        .setProperty("partition.discovery.interval.ms", "-1")
        .build();
    return flink.fromSource(source, WatermarkStrategy.noWatermarks(), "topic", BYTES);
  }

  private static KafkaSink<Message> topicSink(Settings settings) {
    Properties producer = new Properties();
    producer.setProperty("compression.type", "lz4");
    producer.setProperty("linger.ms", "5");
    producer.setProperty("batch.size", "131072");
    return KafkaSink.<Message>builder()
        .setBootstrapServers(settings.text("broker"))
        .setKafkaProducerConfig(producer)
        .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
        .setRecordSerializer(new Message.ToRecord(settings.text("output")))
        .build();
  }
}
