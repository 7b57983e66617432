package peers;

import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.kafka.clients.producer.ProducerRecord;

/** A prediction as bytes. */
public class Message {
  public byte[] key, value;

  public static final class ToRecord implements KafkaRecordSerializationSchema<Message> {
    private final String topic;

    public ToRecord(String topic) {
      this.topic = topic;
    }

    @Override
    public ProducerRecord<byte[], byte[]> serialize(Message message, KafkaSinkContext context, Long time) {
      return new ProducerRecord<>(topic, null, time, message.key, message.value);
    }
  }
}
