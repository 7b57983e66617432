package peers;

import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;

/** A message's value as it came: it is parsed by {@link Parse}, in the thread of the task. */
public final class MessageBytes extends AbstractDeserializationSchema<byte[]> {
  @Override
  public byte[] deserialize(byte[] message) {
    return message;
  }
}
