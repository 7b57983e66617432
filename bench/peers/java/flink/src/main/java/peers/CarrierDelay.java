package peers;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** The window of each carrier, as keyed state on the heap. */
public final class CarrierDelay extends KeyedProcessFunction<String, Row, Row> {
  private transient ValueState<Window> windows;

  @Override
  public void open(OpenContext context) {
    windows = getRuntimeContext().getState(new ValueStateDescriptor<>("window", Window.class));
  }

  @Override
  public void processElement(Row row, Context context, Collector<Row> out) throws Exception {
    Window window = windows.value();
    if (window == null) windows.update(window = new Window());
    row.features[Features.CARRIER_DELAY] = window.add(row.time, row.delay);
    out.collect(row);
  }
}
